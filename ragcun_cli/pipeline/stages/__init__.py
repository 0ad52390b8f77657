"""A stage applied to something: its task, its freshness, its run, what it will cost."""
