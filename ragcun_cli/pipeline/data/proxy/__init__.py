"""Data sets whose queries are made of their own passages, or for them: proxy queries."""
