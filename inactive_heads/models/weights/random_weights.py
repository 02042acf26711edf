"""Models with random weights, described in a few lines of TOML.

architecture = "llama"     # or "gpt2"
n_layers = 4
n_heads = 8
n_key_value_heads = 2      # llama only; default n_heads
d_model = 64
d_head = 8                 # default d_model / n_heads
d_mlp = 256                # default 4 * d_model
n_ctx = 512
d_vocab = 1000
seed = 0                   # default 0
name = "my-model"          # default: the file's name
tokenizer = "demo"         # a folder, a hub name, or "demo" for the bundled model's
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from inactive_heads.errors import UserError
from inactive_heads.models.weights.stored_tensors import StoredTensor
from inactive_heads.specs import DeviceMap
from inactive_heads.toml import integer_of, string_of

SIZES = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
OPTIONAL_SIZES = {
    "gpt2": ("d_head", "d_mlp"),
    "llama": ("d_head", "d_mlp", "n_key_value_heads"),
}
OTHER_KEYS = ("architecture", "name", "seed", "tokenizer")


@dataclass(frozen=True)
class Architecture:
    """A model with random weights: its sizes, under TransformerLens's names, and its seed.

    It can stand in for a `Checkpoint`: it has the same ``network`` and ``tokenizer``, and the
    attributes that results record.

        network = Architecture("gpt2", "tiny", 2, 4, 4, 8, 32, 128, 64, 100).network(
            torch.float32, "eager"
        )

    Attributes:
        family: "gpt2" or "llama".
        name: the model's name.
        n_layers: number of layers.
        n_heads: query heads per layer.
        n_key_value_heads: key/value heads per layer, a divisor of ``n_heads``; equal to it in gpt2.
        d_head: width of a head; d_model / n_heads in gpt2.
        d_model: width of the residual stream.
        d_mlp: width of the MLP's hidden layer.
        n_ctx: the longest input, in tokens.
        d_vocab: number of tokens in the vocabulary.
        seed: seeds the weights.
    """

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

    revision = quantization = adapter = ""  # as in a Checkpoint
    narrow = False
    stored: ClassVar[list[StoredTensor]] = []

    def config(self) -> PretrainedConfig:
        """The architecture as a transformers config.

        Returns:
            A config without special tokens.
        """
        # The default ids of the special tokens may be outside a small vocabulary.
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
        """The model in evaluation mode, on the CPU, without gradients.

        Args:
            dtype: the dtype of the weights.
            attention: transformers' attention implementation, such as "eager"; None is the fastest
                that it offers for the model.
            device_map: must be None.

        Returns:
            The network. Weights depend on the seed alone; torch's global generators are left as
            they were.

        Raises:
            UserError: a ``device_map`` is given; only stored weights can be spread over devices.
        """
        if device_map is not None:
            raise UserError(f"device_map={device_map!r} spreads stored weights, not random ones")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            # Drawn in float32 and then rounded, so that all dtypes have the same weights.
            network = AutoModelForCausalLM.from_config(
                self.config(), attn_implementation=attention, dtype=torch.float32
            )
        return network.to(dtype).eval().requires_grad_(False)

    def tokenizer(self) -> None:
        """None, as random weights have no tokenizer."""


def parse_architecture(table: dict[str, Any], *, where: str, name: str) -> Architecture:
    """The architecture that a TOML table describes.

    Args:
        table: the parsed table; the module's docstring explains its keys.
        where: the file's name, used in error messages.
        name: the model's name if the table has none.

    Returns:
        The architecture, with defaults for keys that are absent.

    Raises:
        UserError: a key is unknown, missing, of the wrong type or inconsistent with another; the
            message names it, its value and what is allowed.
    """
    family = table.get("architecture")
    if not isinstance(family, str) or family not in OPTIONAL_SIZES:
        raise UserError(f"{where}: architecture = {family!r}; it can be {_quoted(OPTIONAL_SIZES)}")
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
        key: integer_of(table, key, where, least=1)
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
    seed = integer_of(table, "seed", where, least=0) if "seed" in table else 0
    return Architecture(
        family=family, name=string_of(table, "name", where) or name, seed=seed, **sizes
    )


def _quoted(names: Any) -> str:
    return " or ".join(f'"{name}"' for name in names)
