"""The damage of zeroing heads, as the increase in loss, to calibrate scores.

Measured by zeroing, with one run per head or layer, or estimated to first order by backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import inactive_heads as ih
from inactive_heads.ablation.ablations import Ablation
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.core.tensor_types import PerHead
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.tasks.base import ScoredInput

STRIDE = 3
"""Losses are computed at every third token: logits of a large vocabulary cost more than layers."""


def losses(
    model: ih.Model, texts: Sequence[Sequence[int]], ablation: Ablation | None = None
) -> tuple[np.ndarray, float]:
    """Each text's loss, and the percentage of heads zeroed.

    Args:
        model: the model.
        texts: token ids.
        ablation: the heads to silence. Default: none.

    Returns:
        ``(text,)``, the mean loss in nats over the tokens read; and the percentage of heads really
        zeroed.
    """
    inputs = []
    for tokens in texts:
        places = list(range(0, len(tokens) - 1, STRIDE))
        inputs.append(ScoredInput(list(tokens), places, [tokens[i + 1] for i in places]))
    recorder = None if ablation is None else ZeroedRecorder(ablation, model.shape, len(inputs))
    found = log_likelihoods(model, inputs, recorder, advance=lambda done: None)
    share = 0.0 if recorder is None else 100 * float(recorder.masks.mean())
    return np.array([-logprobs.mean() for logprobs in found]), share


def damage_alone(model: ih.Model, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """The increase in loss when each head is zeroed alone.

    Args:
        model: the model.
        texts: token ids.

    Returns:
        ``(layer, head)``, in nats, the mean over texts.
    """
    before, _ = losses(model, texts)
    return np.array(
        [
            [
                (losses(model, texts, ih.Fixed([(layer, head)]))[0] - before).mean()
                for head in range(model.shape.n_heads)
            ]
            for layer in model.shape.layers
        ]
    )


def damage_of_layers(model: ih.Model, texts: Sequence[Sequence[int]], score: str) -> np.ndarray:
    """The increase in loss per squared score when half of one layer's heads are zeroed.

    The lower half by the score is zeroed, one layer at a time.

    Args:
        model: the model.
        texts: token ids.
        score: a registered score.

    Returns:
        ``(layer,)``: the increase in nats (at least 0.001), over the sum of the squared scores of
        the heads zeroed.
    """
    before, _ = losses(model, texts)
    means = ih.score_heads(model, texts, scores=[score], progress=False).mean("sample")[0].values
    found = []
    for row, layer in enumerate(model.shape.layers):
        lower = np.argsort(means[row])[: model.shape.n_heads // 2]
        after, _ = losses(model, texts, ih.Fixed([(layer, int(head)) for head in lower]))
        found.append(max((after - before).mean(), 1e-3) / np.square(means[row, lower]).sum())
    return np.array(found)


@dataclass(frozen=True)
class FirstOrder:
    """First-order estimates of what zeroing each head does; see `first_order`.

    Attributes:
        loss: the increase in loss, ``(text, layer, head)``, in nats per token.
        tokens: the sum over tokens of the contributions' absolute values, in the same units.
        drawn: Fisher's estimate of how far predictions move, ``(text, layer, head)``.
    """

    loss: np.ndarray
    tokens: np.ndarray
    drawn: np.ndarray


def first_order(model: ih.Model, texts: Sequence[Sequence[int]], seed: int = 0) -> FirstOrder:
    """The products of head outputs z with gradients, from two backward passes per text.

    ``loss`` is minus the sum of the products over the text's tokens. ``tokens`` is the sum of their
    absolute values. ``drawn`` squares the sum, with next tokens drawn from the model's predictions
    instead of the text's.

    Args:
        model: a model in the flash engine.
        texts: token ids.
        seed: of the draws.

    Returns:
        The three estimates.
    """
    network, shape = model.engine.network, model.shape
    generator = torch.Generator().manual_seed(seed)
    tables = np.zeros((3, len(texts), len(shape.layers), shape.n_heads))
    for row, tokens in enumerate(texts):
        places = torch.arange(0, len(tokens) - 1, STRIDE)
        with _watched_outputs(model) as outputs, torch.enable_grad():
            inputs = torch.tensor([tokens], device=network.device)
            logits = network(
                inputs, use_cache=False, logits_to_keep=places.to(inputs.device)
            ).logits
            logprobs = logits[0].float().log_softmax(dim=-1).cpu()
            drawn = torch.multinomial(logprobs.detach().exp(), 1, generator=generator)[:, 0]
            true = torch.tensor(tokens)[places + 1]
            of_true = _products(-logprobs.gather(1, true[:, None]).mean(), outputs, shape.n_heads)
            of_drawn = _products(-logprobs.gather(1, drawn[:, None]).sum(), outputs, shape.n_heads)
        tables[0, row] = -of_true.sum(dim=1)
        tables[1, row] = of_true.abs().sum(dim=1)
        tables[2, row] = of_drawn.sum(dim=1).square() / (2 * len(places))
    return FirstOrder(*tables)


@contextmanager
def _watched_outputs(model: ih.Model) -> Iterator[dict[int, Tensor]]:
    """The inputs of every layer's W_O, with gradients."""
    outputs: dict[int, Tensor] = {}

    def watch(layer: int) -> Callable[..., tuple[Tensor, ...]]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            outputs[layer] = args[0].requires_grad_(True)
            return (outputs[layer], *args[1:])

        return hook

    with ExitStack() as stack:
        for layer in model.shape.layers:
            projection = model.engine.projections[layer]
            stack.callback(projection.register_forward_pre_hook(watch(layer)).remove)
        yield outputs


def _products(target: Tensor, outputs: dict[int, Tensor], n_heads: int) -> Tensor:
    """z times the target's gradient, summed over d_head: ``(layer, pos, head)``."""
    watched = list(outputs.values())
    gradients = torch.autograd.grad(target, watched, retain_graph=True)
    products = [
        (z.detach() * gradient)[0].unflatten(-1, (n_heads, -1)).sum(dim=-1)
        for z, gradient in zip(watched, gradients, strict=True)
    ]
    return torch.stack([product.float().cpu() for product in products])


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A score multiplied by a factor per head or per layer.

    Args:
        score: the score.
        factors: ``(layer, head)``, or ``(layer, 1)`` for a factor per layer.
        layers: each row's layer.
    """

    score: ih.Score
    factors: np.ndarray
    layers: tuple[int, ...]

    def __call__(self, heads: ih.HeadActivations) -> PerHead:
        """The score, ``(batch, head)``."""
        factor = self.factors[self.layers.index(heads.layer)]
        values = self.score(heads)
        return values * torch.as_tensor(factor).to(values)


@dataclass(frozen=True, eq=False)
class Given:
    """Precomputed scores.

    Args:
        values: ``(text, layer, head)``.
        layers: each row's layer.
    """

    values: np.ndarray
    layers: tuple[int, ...]

    def __call__(self, heads: ih.HeadActivations) -> PerHead:
        """The score, ``(batch, head)``."""
        found = self.values[list(heads.batch.rows), self.layers.index(heads.layer)]
        return torch.as_tensor(found).to(heads.z)
