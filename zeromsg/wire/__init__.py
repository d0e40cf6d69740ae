"""Floor 0: bytes and JSON to frozen values, and back. No I/O, no time."""
