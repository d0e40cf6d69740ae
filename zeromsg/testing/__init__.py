"""Doubles and an in-memory network, for our own tests and for yours."""

from zeromsg.testing.network import MemoryClient, Network, NetworkNode

__all__ = ["MemoryClient", "Network", "NetworkNode"]
