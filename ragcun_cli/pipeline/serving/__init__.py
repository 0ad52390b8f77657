"""A saved model at work elsewhere: exported, and held against what a server computes."""
