"""BM25: its terms, its index, its hits."""
