"""What a data set consists of, and whether it is what it should be."""
