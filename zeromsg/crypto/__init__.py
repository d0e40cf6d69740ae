"""Floor 0: keys, addresses and signatures as ZeroNet makes them. No I/O."""
