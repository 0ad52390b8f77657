"""Measures of how embeddings fill their space."""
