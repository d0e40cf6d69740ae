"""Peer-to-peer messages for ZeroNet sites and programs."""

__version__ = "0.1.0"
