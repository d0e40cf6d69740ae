"""Floor 3: what a node keeps on disk."""
