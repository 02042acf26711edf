"""The metadata of one architecture, read key by key, so that what nobody read can be refused."""

from __future__ import annotations

import math
from collections.abc import Iterable

from inactive_heads.errors import UserError
from inactive_heads.models.weights.gguf.parts import StoredModel

LARGEST_SIZE = 1 << 31
"""No size of a model is larger."""


class Metadata:
    """The keys of a model's architecture, without its name in front.

        keys = Metadata(model)
        keys.size("block_count")  # 12, from llama.block_count
        keys.unread()             # every other key of the architecture

    Args:
        model: the model.
    """

    def __init__(self, model: StoredModel) -> None:
        self.model = model
        self._prefix = f"{model.architecture}."
        self._unread = {key for key in model.metadata if key.startswith(self._prefix)}

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number, at least 1.

        Args:
            key: its key. An array of equal numbers, one a layer, is read as one number.
            default: the value without the key; None if the key has to be there.

        Returns:
            The number.

        Raises:
            UserError: it is missing, of another kind, or not the same in every layer.
        """
        return self._whole(key, default, smallest=1)

    def count(self, key: str, default: int = 0) -> int:
        """A whole number, at least 0; as `size` otherwise."""
        return self._whole(key, default, smallest=0)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; as `size` otherwise."""
        value = self._single(key, default)
        if not isinstance(value, (int, float)) or value is True or not 0 < value < math.inf:
            raise self.refusal(key, "a number above 0 is expected")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or False; ``default`` without the key."""
        value = self._take(key)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(key, "true or false is expected")
        return default if value is None else value

    def text(self, key: str, default: str) -> str:
        """A text; ``default`` without the key."""
        value = self._take(key)
        if value is not None and not isinstance(value, str):
            raise self.refusal(key, "a text is expected")
        return default if value is None else value

    def per_layer(self, key: str, n_layers: int) -> list[int]:
        """Whole numbers, at least 0, one a layer.

        Args:
            key: the key of an array, or of one number for all layers.
            n_layers: the number of layers.

        Returns:
            The numbers.

        Raises:
            UserError: it is missing, or is not one number a layer.
        """
        value = self._take(key)
        values = value if isinstance(value, list) else [value] * n_layers
        numbers = [v for v in values if isinstance(v, int) and 0 <= v < LARGEST_SIZE]
        if len(numbers) != len(values) or len(values) != n_layers:
            raise self.refusal(key, f"{n_layers} whole numbers are expected")
        return numbers

    def per_item(self, key: str) -> list[int]:
        """The whole numbers of an array; empty without the key."""
        value = self.model.metadata.get(self._prefix + key, [])
        return self.per_layer(key, len(value)) if isinstance(value, list) and value else []

    def is_array(self, key: str) -> bool:
        """Whether the key has an array."""
        return isinstance(self.model.metadata.get(self._prefix + key), list)

    def known(self, keys: Iterable[str]) -> None:
        """Marks keys as known not to change what a model computes."""
        self._unread -= {self._prefix + key for key in keys}

    def expect(self, key: str, *allowed: object) -> None:
        """Refuses a key with any other value than the allowed ones; it may be missing."""
        value = self._take(key)
        if value is not None and value not in allowed:
            raise self.refusal(key, f"only {' or '.join(map(repr, allowed))} can be read")

    def has(self, key: str) -> bool:
        """Whether there is such a key."""
        return self._prefix + key in self.model.metadata

    def has_tensor(self, *endings: str) -> bool:
        """Whether a layer has a tensor with one of these names, such as "attn_q.bias"."""
        return any(name.endswith(tuple(f".{e}" for e in endings)) for name in self.model.tensors)

    def refusal(self, key: str, reason: str) -> UserError:
        """The error about a key's value."""
        value = self.model.metadata.get(self._prefix + key)
        shown = "missing" if value is None else f"{value!r:.60}"
        return UserError(f"{self.model.path}: {self._prefix}{key} is {shown}; {reason}")

    def unread(self) -> list[str]:
        """The keys of the architecture that nothing has read, sorted."""
        return sorted(self._unread)

    def _whole(self, key: str, default: int | None, smallest: int) -> int:
        value = self._single(key, default)
        if not isinstance(value, int) or value is True or not smallest <= value < LARGEST_SIZE:
            raise self.refusal(key, f"a whole number of at least {smallest} is expected")
        return int(value)

    def _single(self, key: str, default: object) -> object:
        """The key's value, the same in every layer; ``default`` without the key."""
        value = self._take(key)
        if isinstance(value, list):
            if not value or any(each != value[0] for each in value):
                raise self.refusal(key, "layers that differ in it cannot be read")
            return value[0]
        return value if self.has(key) else default

    def _take(self, key: str) -> object:
        self._unread.discard(self._prefix + key)
        return self.model.metadata.get(self._prefix + key)
