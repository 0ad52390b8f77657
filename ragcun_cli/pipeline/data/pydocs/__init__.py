"""Data sets made of the docstrings of installed libraries."""
