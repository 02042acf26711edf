"""Models with random weights, described in a few lines of TOML.

architecture = "llama"     # or "gpt2"
n_layers = 4
n_heads = 8
n_key_value_heads = 2      # llama only; n_heads when absent
d_model = 64
d_head = 8                 # d_model / n_heads when absent
d_mlp = 256                # 4 * d_model when absent
n_ctx = 512
d_vocab = 1000
seed = 0                   # 0 when absent
name = "my-model"          # the file's name when absent
tokenizer = "demo"         # a folder or hub name, or "demo": the bundled model's
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from inactive_heads.errors import UserError
from inactive_heads.specs import DeviceMap

SIZES = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
OPTIONAL_SIZES = {
    "gpt2": ("d_head", "d_mlp"),
    "llama": ("d_head", "d_mlp", "n_key_value_heads"),
}
OTHER_KEYS = ("architecture", "name", "seed", "tokenizer")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model with random weights, with TransformerLens's names, and its seed."""

    family: str
    name: str
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    n_ctx: int
    d_vocab: int
    seed: int = 0

    revision = quantization = ""  # as a checkpoint has them
    narrow = False

    def config(self) -> PretrainedConfig:
        """The same in transformers' words."""
        # The default ids of the special tokens may lie outside a small vocabulary.
        ids: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        if self.family == "gpt2":
            return GPT2Config(
                n_layer=self.n_layers,
                n_head=self.n_heads,
                n_embd=self.d_model,
                n_inner=self.d_mlp,
                n_positions=self.n_ctx,
                vocab_size=self.d_vocab,
                **ids,
            )
        return LlamaConfig(
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.n_heads,
            num_key_value_heads=self.n_key_value_heads,
            head_dim=self.d_head,
            hidden_size=self.d_model,
            intermediate_size=self.d_mlp,
            max_position_embeddings=self.n_ctx,
            vocab_size=self.d_vocab,
            **ids,
        )

    def network(
        self, dtype: torch.dtype, attention: str | None, device_map: DeviceMap | None = None
    ) -> PreTrainedModel:
        """The model, the same for the same seed; the global generators stay as they were.

        Raises:
            UserError: a ``device_map``, which is for stored weights.
        """
        if device_map is not None:
            raise UserError(f"device_map={device_map!r} spreads stored weights, not random ones")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            # Drawn in float32 and then rounded, so that every dtype has the same weights.
            network = AutoModelForCausalLM.from_config(
                self.config(), attn_implementation=attention, dtype=torch.float32
            )
        return network.to(dtype).eval().requires_grad_(False)

    def tokenizer(self) -> None:
        """None: random weights have no tokenizer of their own."""


def parse_architecture(table: dict[str, Any], *, where: str, name: str) -> Architecture:
    """The architecture that a TOML table describes.

    Args:
        table: the parsed table; its keys are those of this module's example.
        where: the file, for messages.
        name: the model's name when the table has none.

    Raises:
        UserError: a key that is unknown, missing, of the wrong type or at odds with another;
            the message names it, its value and what is allowed.
    """
    family = table.get("architecture")
    if family not in OPTIONAL_SIZES:
        raise UserError(f"{where}: architecture = {family!r}; it can be {_words(OPTIONAL_SIZES)}")
    allowed = (*SIZES, *OPTIONAL_SIZES[family], *OTHER_KEYS)
    for key in table:
        if key not in allowed:
            raise UserError(
                f"{where}: {key} = {table[key]!r} is not a key of a {family} architecture; "
                f"the keys are {', '.join(allowed)}"
            )
    missing = [key for key in SIZES if key not in table]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} is missing; give a whole number above 0")
    sizes = {
        key: _whole(table, key, where, least=1)
        for key in (*SIZES, *OPTIONAL_SIZES[family])
        if key in table
    }
    d_model, n_heads = sizes["d_model"], sizes["n_heads"]
    if d_model % n_heads and (family == "gpt2" or "d_head" not in sizes):
        raise UserError(
            f"{where}: d_model = {d_model} is not a multiple of n_heads = {n_heads}; change one of them"
            + (", or give d_head" if family == "llama" else "")
        )
    sizes.setdefault("d_head", d_model // n_heads)
    sizes.setdefault("d_mlp", 4 * d_model)
    sizes.setdefault("n_key_value_heads", n_heads)
    if family == "gpt2" and sizes["d_head"] * n_heads != d_model:
        raise UserError(
            f"{where}: d_head = {sizes['d_head']}, but in gpt2 it is d_model / n_heads = "
            f"{d_model // n_heads}; leave it out"
        )
    if n_heads % sizes["n_key_value_heads"]:
        raise UserError(
            f"{where}: n_heads = {n_heads} is not a multiple of n_key_value_heads = "
            f"{sizes['n_key_value_heads']}; every group needs the same number of query heads"
        )
    if family == "llama" and sizes["d_head"] % 2:
        raise UserError(
            f"{where}: d_head = {sizes['d_head']} is odd; rotary positions turn pairs of numbers"
        )
    seed = _whole(table, "seed", where, least=0) if "seed" in table else 0
    return Architecture(
        family=family, name=text_of(table, "name", where) or name, seed=seed, **sizes
    )


def text_of(table: dict[str, Any], key: str, where: str) -> str | None:
    """The string under ``key``, or None without it. Raises UserError for anything else."""
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UserError(f"{where}: {key} = {value!r}; give a text in quotes")
    return value


def _whole(table: dict[str, Any], key: str, where: str, *, least: int) -> int:
    value = table[key]
    # TOML's true is Python's True, which is an int.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise UserError(f"{where}: {key} = {value!r}; give a whole number of at least {least}")
    return value


def _words(names: Any) -> str:
    return " or ".join(f'"{name}"' for name in names)
