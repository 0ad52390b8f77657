"""Exact search and BM25 in compiled arithmetic."""
