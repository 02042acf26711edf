"""Logits that are not finite end a run; where that began is looked for only then."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.tensor_types import Logits, TokenMask
from inactive_heads.engines.base import Silence, Visitor
from inactive_heads.errors import NotFinite, UserError

DAMAGED = "float16 or another dtype overflows, or weights are damaged"


def check_logits(logits: Logits, rows: Callable[[int], int]) -> Logits:
    """Check that every token's logits have a log-probability, and say anything.

    A logit may be -inf, since some models mask tokens of their vocabulary in this way. NaN, +inf,
    or nothing but -inf are errors. So are logits that are all the same: a residual stream whose
    square overflows becomes 0 in an RMSNorm, and not NaN.

    Args:
        logits: ``(kept, d_vocab)``.
        rows: returns the number of the input that a kept token belongs to.

    Returns:
        The same logits.

    Raises:
        NotFinite: some are not finite or all the same; names the first such input.
    """
    smallest, largest = logits.aminmax(dim=-1)
    fine = torch.isfinite(largest) & (smallest < largest)
    if bool(fine.all()):
        return logits
    wrong = torch.nonzero(~fine).flatten().tolist()
    row, value = min((rows(kept), float(largest[kept])) for kept in wrong)
    every = "all " if math.isfinite(value) else ""
    raise NotFinite(row, f"the model's logits are {every}{value}", DAMAGED)


def kept_rows(batch: TokenBatch, keep: TokenMask) -> Callable[[int], int]:
    """A function from the index of a kept token to the number of its input.

    Args:
        batch: the inputs.
        keep: ``(batch, pos)``, true at the kept tokens.
    """
    return lambda kept: int(batch.rows[int(keep.nonzero()[kept, 0])])


@dataclass(eq=False)
class FirstFault:
    """A visitor that stops at the first layer whose activations are not finite.

    Args:
        answers: the heads to silence, by layer.

    Attributes:
        where: where the fault began, in words; after the last attention layer if no layer shows it.
    """

    answers: Callable[[int], Silence | None]
    before: int | None = None
    where: str = ""

    def __call__(self, heads: HeadActivations) -> Silence | None:
        layer, last = heads.layer, self.before
        self.before = layer
        self.where = f"after the heads of layer {layer} (its MLP, the final norm or the logits)"
        try:
            stream: Tensor | None = heads.stream()
        except UserError:  # no engine knows every model's residual stream
            stream = None
        if stream is not None and not _finite(stream):
            after = "at the embedding" if last is None else f"in layer {last}, after its heads"
            raise _Found(f"before layer {layer}" if last is None and layer else after)
        if not _finite(heads.values):
            raise _Found(f"in layer {layer}, in the heads' value vectors")
        if not _finite(heads.outputs):
            raise _Found(f"in layer {layer}, in the heads' outputs")
        return self.answers(layer)


def located(
    fault: NotFinite,
    tokens: Sequence[int],
    answers: Callable[[int], Silence | None],
    run: Callable[[TokenBatch, Visitor], object],
    network: nn.Module,
) -> NotFinite:
    """The error with the place where the fault began, from another run of the input alone.

    Args:
        fault: the error of the first run.
        tokens: the input's tokens.
        answers: the heads silenced in the first run, by layer.
        run: runs a batch with a visitor.
        network: the model.

    Returns:
        The error, to be raised.
    """
    look = FirstFault(answers)
    device = next(network.parameters()).device
    try:
        run(TokenBatch.of([tokens], rows=[fault.row], device=device), look)
    except _Found as found:
        look.where = str(found)
    except NotFinite:
        pass  # found in the logits again, and in no layer
    return NotFinite(
        fault.row, f"{fault.problem}, which began {look.where}", _remedy(network), fault.name
    )


class _Found(Exception):
    """A layer's activations are not finite; the message says where that began."""


def _first_bad_weight(network: nn.Module) -> str | None:
    """The name of the first weight that is not finite; None if all are."""
    with torch.no_grad():
        for name, one in network.named_parameters():
            # The least and largest are NaN if any is; one pass, without a copy.
            if one.is_floating_point() and one.numel():
                low, high = torch.aminmax(one)
                if not (math.isfinite(float(low)) and math.isfinite(float(high))):
                    return name
    return None


def _remedy(network: nn.Module) -> str:
    bad = _first_bad_weight(network)
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    wider = "float64" if dtype in ("float32", "float64") else "float32"
    if bad:
        return (
            f"the weight {bad} is damaged, or too large for dtype {dtype}: get the weights "
            f'again, or load them with dtype="{wider}"'
        )
    return (
        f"no weight is NaN, so numbers overflow dtype {dtype} or weights are damaged: load with "
        f'dtype="{wider}", or get the weights again'
    )


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())
