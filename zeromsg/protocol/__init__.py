"""Floor 1: conversations without I/O. Time goes in, events come out."""
