"""What an engine shows and does on a network, against plain runs of the same network."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

import inactive_heads as ih
from helpers.projections import PlainRun, ahon_ln, n_heads, per_input, plain_run, projections
from inactive_heads.core.activations import HeadActivations
from inactive_heads.engines.base import Silence
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

Build = Callable[[str | None], PreTrainedModel]
"""Makes a network, the same each time, with eager attention or transformers' choice (None)."""
ENGINES: dict[str, Callable[[PreTrainedModel], Any]] = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny").requires_grad_(False)),
}
YES, REFUSED, WRONG, CRASHED = "yes", "refused", "WRONG", "CRASHED"
LENGTHS = (11, 7, 1)
TOLERANCE = 1e-4
"""Of the largest number of a tensor; what float32 leaves in a tiny model is far below."""


@dataclass
class Outcome:
    """What came of an architecture by an engine.

    Attributes:
        model_type: the architecture.
        engine: the engine's name.
        checks: "yes", or a word of what is wrong with its reason, by check.
        refused: why the engine does not take the model; empty if it does.
        crashed: the error with which it failed to; empty if it did not.
        reads: whether RON is returned, or why not.
        shares: whether shared beginnings run once.
    """

    model_type: str
    engine: str
    checks: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    crashed: str = ""
    reads: str = ""
    shares: str = ""

    @property
    def status(self) -> str:
        """Right, refused, WRONG or CRASHED."""
        found = [*self.checks.values(), self.reads]
        if self.crashed or any(one.startswith(CRASHED) for one in found):
            return CRASHED
        if any(one.startswith(WRONG) for one in found):
            return WRONG
        refused = self.refused or any(one.startswith(REFUSED) for one in self.checks.values())
        return REFUSED if refused else YES

    @property
    def reason(self) -> str:
        """Why it is not right, in one line."""
        found = [f"{name}: {one}" for name, one in self.checks.items() if one != YES]
        if self.reads.startswith((WRONG, CRASHED)):
            found.append(f"RON: {self.reads}")
        return self.crashed or self.refused or "; ".join(found)


def check(model_type: str, engine: str, build: Build) -> Outcome:
    """Everything that is checked of an architecture by an engine.

    Args:
        model_type: its name.
        engine: one of `ENGINES`.
        build: makes the network.
    """
    outcome = Outcome(model_type, engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = build("eager" if engine == "lens" else None)
            model = Model(ENGINES[engine](network), None, {"model": "tiny"}, lambda text: [])
        except ih.UserError as error:
            outcome.refused = str(error)
            return outcome
        except Exception as error:  # noqa: BLE001  a user would see its traceback
            outcome.crashed = _words(error)
            return outcome
        checks = Checks(model, build)
        for name, one in checks.all.items():
            outcome.checks[name] = _result(one)
        outcome.reads = _result(checks.reads)
        if engine == "flash":
            outcome.shares = _result(lambda: YES if model.engine.shares_prefixes() else "no")
    return outcome


def _result(one: Callable[[], str | None]) -> str:
    try:
        return one() or YES
    except ih.UserError as error:
        return f"{REFUSED}: {error}"
    except AssertionError as error:
        return f"{WRONG}: {error}"
    except Exception as error:  # noqa: BLE001  a user would see its traceback
        return f"{CRASHED}: {_words(error)}"


def _words(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)
    own = [one for one in where if "inactive_heads" in one.filename]
    place = (
        f" at {own[-1].filename.rpartition('inactive_heads/')[2]}:{own[-1].lineno}" if own else ""
    )
    return " ".join(f"{type(error).__name__}{place}: {error}".split())[:300]


class Checks:
    """The checks of one model. Each raises an AssertionError, or returns what it found.

    Args:
        model: the model by an engine.
        build: makes the same network, run the plain way.
    """

    def __init__(self, model: Model, build: Build) -> None:
        self._model, self._engine, self._build = model, model.engine, build
        self._network = build(None)
        draw = torch.Generator().manual_seed(1)
        self._inputs = [torch.randint(3, 97, (n,), generator=draw).tolist() for n in LENGTHS]
        self.all: dict[str, Callable[[], str | None]] = {
            "logits": self.logits,
            "z": self.outputs,
            "attention": self.attention,
            "zeroing": self.zeroing,
            "padding": self.padding,
            "per input": self.per_input,
        }

    def logits(self) -> None:
        """Logits without a visitor are the plain model's."""
        for tokens, plain in zip(self._inputs, self._plain, strict=True):
            found = self._engine.run(_alone(tokens), keep=_alone(tokens).mask)
            _near("logits", found, plain.logits)

    def outputs(self) -> None:
        """z is what enters the output projection, in every layer that has one."""
        for plain, seen in zip(self._plain, self._seen, strict=True):
            assert sorted(seen) == sorted(plain.z), (
                f"heads are shown in layers {sorted(seen)}, projections run in {sorted(plain.z)}"
            )
            for layer, z in plain.z.items():
                _near(f"z of layer {layer}", seen[layer]["z"], z)

    def attention(self) -> str | None:
        """First-token weight and entropy are those of the eager pattern."""
        try:
            eager = self._build("eager")
            runs = [plain_run(eager, tokens, patterns=True) for tokens in self._inputs]
        except Exception as error:  # noqa: BLE001  the model's own eager attention
            return f"no pattern ({type(error).__name__})"
        if not all(run.patterns for run in runs):
            return "no pattern"
        for seen, run in zip(self._seen, runs, strict=True):
            for layer, pattern in run.patterns.items():
                assert layer in seen, f"heads of layer {layer} are not shown"
                first, entropy = pattern[:, :, 0].T, _entropy(pattern).T
                _near(f"first-token weight of layer {layer}", seen[layer]["first"], first, 1.0)
                _near(f"entropy of layer {layer}", seen[layer]["entropy"], entropy, 1.0)
        return None

    def zeroing(self) -> None:
        """Zeroed heads are zero columns of the projection's input, and nothing else changes."""
        masks = self._some_heads()
        for tokens in self._inputs:
            found = self._engine.run(_alone(tokens), _silencing(masks), keep=_alone(tokens).mask)
            expected = plain_run(self._network, tokens, masks).logits
            _near("logits", found, expected)

    def padding(self) -> None:
        """Inputs padded on either side give what each gives alone."""
        masks = self._some_heads()
        alone = [self._scores(_alone(tokens), masks) for tokens in self._inputs]
        for side in ("left", "right"):
            batch = ih.TokenBatch.of(self._inputs, side=side)
            found = self._scores(batch, masks)
            for name, values in found.items():
                expected = torch.cat([one[name] for one in alone])
                _near(f"{name}, padded {side}", values, expected)

    def _scores(self, batch: ih.TokenBatch, masks: dict[int, np.ndarray]) -> dict[str, Any]:
        """Logits of a plain, a visited and a zeroing run, and means over tokens of the visited."""
        found: dict[str, Any] = {"plain logits": self._engine.run(batch)}

        def look(heads: HeadActivations) -> None:
            for name in ("z_norm", "v_norm", "first_token_weight", "entropy"):
                mean = heads.mean_over_tokens(getattr(heads, name))
                found[f"{name} of layer {heads.layer}"] = mean

        found["visited logits"] = self._engine.run(batch, look)
        found["zeroed logits"] = self._engine.run(batch, _silencing(masks))
        return found

    def per_input(self) -> None:
        """Zeroing by AHON (LN) is that of a float64 reference that reruns the model."""
        inputs = self._inputs[:2]
        z = [z for plain in self._plain[:2] for z in plain.z.values()]
        threshold = _gap(np.concatenate([ahon_ln(one) for one in z]))
        run = ih.ablate(self._model, inputs, ih.PerInput("AHON (LN)", threshold))
        for row, tokens in enumerate(inputs):
            logits, masks = per_input(self._network, tokens, threshold)
            for index, layer in enumerate(self._engine.shape.layers):
                found = np.asarray(run.zeroed[row, index], dtype=float)[: len(masks[layer])]
                assert np.array_equal(found == 1, masks[layer]), (
                    f"other heads of layer {layer} are zeroed"
                )
            _near("logits", np.asarray(run.logits)[row], logits[-1], tolerance=1e-3)

    def reads(self) -> None:
        """RON is returned, and finite."""
        found = ih.score_heads(self._model, self._inputs, scores=["RON"])
        assert bool(np.isfinite(found.values).any()), "no finite number"

    @cached_property
    def _plain(self) -> list[PlainRun]:
        return [plain_run(self._network, tokens) for tokens in self._inputs]

    @cached_property
    def _seen(self) -> list[dict[int, dict[str, Any]]]:
        """By input and layer, what a visitor sees."""
        seen: list[dict[int, dict[str, Any]]] = []

        def look(heads: HeadActivations) -> None:
            seen[-1][heads.layer] = {
                "z": heads.z[0],
                "first": heads.first_token_weight[0],
                "entropy": heads.entropy[0],
            }

        for tokens in self._inputs:
            seen.append({})
            self._engine.run(_alone(tokens), look)
        return seen

    def _some_heads(self) -> dict[int, np.ndarray]:
        dice = np.random.default_rng(0)
        counts = {layer: n_heads(self._network, layer) for layer in projections(self._network)}
        return {layer: dice.permutation(np.arange(n) % 2 == 0) for layer, n in counts.items()}


def _silencing(masks: dict[int, np.ndarray]) -> Callable[[HeadActivations], Silence]:
    return lambda heads: Silence(torch.as_tensor(masks[heads.layer])[None])


def _alone(tokens: list[int]) -> ih.TokenBatch:
    return ih.TokenBatch.of([tokens])


def _entropy(pattern: np.ndarray) -> np.ndarray:
    positive = np.where(pattern > 0, pattern, 1)
    return -(positive * np.log(positive)).sum(axis=-1)


def _gap(values: np.ndarray) -> float:
    """A threshold near the middle, in the widest of the gaps there: rounding does not decide."""
    ordered = np.unique(values)
    middle = len(ordered) // 2
    near = ordered[max(middle - 4, 0) : middle + 4]
    at = int(np.diff(near).argmax())
    return float((near[at] + near[at + 1]) / 2)


def _near(
    what: str, found: Any, expected: Any, least: float = 0.0, tolerance: float = TOLERANCE
) -> None:
    """No number is off by more than the tolerance of the largest, or of ``least``."""
    found, expected = (np.asarray(one, dtype=float) for one in (found, expected))
    assert found.shape == expected.shape, f"{what} have shape {found.shape}, not {expected.shape}"
    size = max(float(np.abs(expected).max()), least, 1e-30)
    off = float(np.abs(found - expected).max()) / size
    assert off <= tolerance, f"{what} off by {off:.1g} of the largest"
