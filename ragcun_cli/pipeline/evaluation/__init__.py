"""From a model to its scores on judged sets."""
