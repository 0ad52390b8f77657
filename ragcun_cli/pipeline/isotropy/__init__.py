"""From a model to the isotropy of its embeddings."""
