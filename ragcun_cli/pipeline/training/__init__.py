"""From mined rows to a trained encoder."""
