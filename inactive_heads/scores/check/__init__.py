"""Checks a score function against the contract."""
