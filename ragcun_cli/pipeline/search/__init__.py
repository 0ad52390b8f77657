"""Search of judged sets, exact or by BM25, and the rankings that it leaves."""
