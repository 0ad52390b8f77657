"""Tables of measured numbers, and the formats they are written in."""
