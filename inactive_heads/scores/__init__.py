"""The score functions and their registry.

Importing this folder registers every score that ships with the package.
"""

# In this order: the registry lists names as they are registered.
# isort: off
from inactive_heads.scores import paper, literature, proposed

# isort: on
from inactive_heads.scores.registry import REGISTRY

__all__ = ["BUILT_IN", "literature", "paper", "proposed"]

BUILT_IN = dict(REGISTRY)
"""The scores that ship with the package, by name: every process that imports it has them."""
