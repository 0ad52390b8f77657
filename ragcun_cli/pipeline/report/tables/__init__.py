"""What the tables of a report hold."""
