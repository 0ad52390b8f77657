"""Data sets on disk: read, checked, stored, lent."""
