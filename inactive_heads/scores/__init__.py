"""The score functions and their registry."""
