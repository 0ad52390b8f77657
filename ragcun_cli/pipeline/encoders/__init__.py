"""Encoders: found, loaded, asked for embeddings, kept."""
