"""Whether a score function keeps the contract."""
