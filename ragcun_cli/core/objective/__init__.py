"""The loss: its terms, how they are combined, and the isotropy term itself."""
