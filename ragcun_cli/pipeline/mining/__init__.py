"""Negatives for the queries of a training set."""
