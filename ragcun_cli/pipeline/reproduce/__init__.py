"""What a command works on, runs and finds; nothing here knows the terminal."""
