"""The stages of a run: the only floor that touches disk, network and processes."""
