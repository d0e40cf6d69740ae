"""Floor 3: where calls of clients and requests of peers meet."""
