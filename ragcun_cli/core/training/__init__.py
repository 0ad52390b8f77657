"""One training: batches, steps, checkpoints, what stops it, and the probe before it."""
