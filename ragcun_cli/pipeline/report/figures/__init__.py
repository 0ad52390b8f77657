"""What the figures of a report hold, and how they are drawn."""
