"""Train, evaluate and report dense retrievers with LeJEPA's isotropy regularisation."""
