"""One file a command: parse, one call into the pipeline, show the result."""
