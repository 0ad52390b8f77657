"""The shared core: model, losses, trainer, and the arithmetic around them."""
