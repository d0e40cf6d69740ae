"""Floor 3: pages that the node serves over HTTP."""
