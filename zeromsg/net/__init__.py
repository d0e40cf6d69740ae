"""Floor 3: sockets to peers and clients."""
