"""The roof: configuration, and the assembly of all floors into a service."""
