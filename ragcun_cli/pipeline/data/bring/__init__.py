"""Data sets brought from where others keep them."""
