"""The unablated model's next-token distributions, and how far an ablated model's are from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inactive_heads.core.tensor_types import FinalStates, Logits
from inactive_heads.engines.base import UnembeddingEngine
from inactive_heads.errors import NotFinite, UserError, shortened
from inactive_heads.evaluation.log_likelihood import Measured, Run, targets
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ScoredInput

MAX_STATES = 2**30
"""The most bytes of final hidden states to hold at once: 1 GiB."""

LOGITS_HELD = 2**27
"""The most unablated logits to hold for all runs: 512 MiB in float32.

On a CPU, where memory is plenty and an unembedding takes a fifth of a small model's run.
"""

UNEMBEDDED_AT_ONCE = 2**26
"""The most unablated logits to hold at once (256 MiB in float32), as many as of the ablated run."""

COMPARED_AT_ONCE = 2**18
"""The most logits to compare at once on a CPU, so that intermediate results stay in its cache."""

PROVEN_ON = 4
"""The number of tokens on which an engine's unembedding is compared with its run."""

Reads = tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class _Before:
    """The unablated model's logits at some kept tokens of a run, ``(token, d_vocab)``.

    Attributes:
        start: the index of the first of the tokens among the run's kept ones.
        logits: the logits.
    """

    start: int
    logits: Logits

    @cached_property
    def largest(self) -> Tensor:
        """Each token's largest logit, ``(token,)``."""
        return self.logits.amax(dim=-1)

    @cached_property
    def best(self) -> tuple[Tensor, Tensor]:
        """The indices of tokens and their most probable next ones, several if these tie."""
        rows, tokens = torch.nonzero(self.logits == self.largest[:, None], as_tuple=True)
        return rows, tokens

    @staticmethod
    def of(logits: Logits, start: int = 0) -> Iterator[_Before]:
        """The same logits in parts that are compared at once."""
        on_cpu = logits.device.type == "cpu"
        step = max(1, COMPARED_AT_ONCE // logits.shape[1]) if on_cpu else len(logits)
        for first in range(0, len(logits), step):
            yield _Before(start + first, logits[first : first + step])


class Unablated:
    """The unablated model's next-token distributions at the targets of some inputs.

    Of the unablated model's run, the final hidden states are kept: ``d_model`` numbers per target
    instead of ``d_vocab``, on the CPU. When an ablated model is measured, the model's own
    unembedding turns them into logits again. If they take more memory than there is room for, or if
    the engine cannot unembed them, the unablated model runs beside every batch instead. The logits
    of a few texts on a CPU are kept, too, for runs of the same batches.

    `hold` and `compare` are measures of `log_likelihoods`: the first for the run of the unablated
    model, the second for runs with heads silenced.

    Args:
        model: the model.
        inputs: the inputs to run, with the targets to read.
        room: the most bytes of states to hold.

    Attributes:
        holds: whether states are held, or will be.
        n_bytes: the bytes of states held.
    """

    def __init__(self, model: Model, inputs: list[ScoredInput], room: int) -> None:
        engine = model.engine
        n_targets = sum(len(one.targets) for one in inputs)
        needed = n_targets * model.shape.d_model * engine.dtype.itemsize
        self._engine = engine if isinstance(engine, UnembeddingEngine) else None
        self._states: list[Tensor | None] = [None] * len(inputs)
        self._inputs, self._provenance = inputs, model.provenance
        self._proven = False
        few = n_targets * model.shape.d_vocab <= LOGITS_HELD
        self._holds_logits = few and engine.device.type == "cpu"
        self._held: dict[Reads, list[_Before]] = {}
        self.holds = self._engine is not None and needed <= room

    @property
    def n_bytes(self) -> int:
        """The bytes of states held."""
        return sum(one.nbytes for one in self._states if one is not None)

    def check(self, model: Model, inputs: list[ScoredInput]) -> None:
        """Check that these are the distributions of a model at the targets of inputs.

        Args:
            model: the model to be compared.
            inputs: its inputs.

        Raises:
            UserError: they are those of other inputs or of another model.
        """
        if inputs != self._inputs:
            raise UserError(
                f"the baseline is of {len(self._inputs)} other texts than these {len(inputs)}, or "
                "of the same in another order: evaluate the unablated model on the same task"
            )
        if model.provenance != self._provenance:
            differing = [
                f"{name} {shortened(self._provenance.get(name))} and {shortened(own)}"
                for name, own in model.provenance.items()
                if self._provenance.get(name) != own
            ]
            raise UserError(
                f"the baseline is of another model ({', '.join(differing)}): evaluate this model "
                "without an ablation"
            )

    def hold(self, run: Run) -> Measured:
        """Keeps the final hidden states, and few logits, of a run of the unablated model.

        Args:
            run: a run with no head silenced.

        Returns:
            What `targets` returns.
        """
        if self._holds_logits:
            self._held[_reads(run)] = list(_Before.of(run.logits))
        if self.holds and not self._proven:
            self.holds = self._proven = self._unembeds(run)
        if self.holds and run.states is not None:
            states = run.states.cpu()
            for read in run.reads:
                if (own := self._states[read.row]) is None:
                    size = (len(self._inputs[read.row].targets), states.shape[1])
                    own = self._states[read.row] = torch.empty(size, dtype=states.dtype)
                own[list(read.which)] = states[run.kept_at(read)]
        return targets(run)

    def compare(self, run: Run) -> Measured:
        """Measures how far the next-token distributions of a run are from the unablated model's.

        Args:
            run: a run with heads silenced.

        Returns:
            A function from indices of kept tokens, and the target after each, to numbers
            ``(3, target)``: the target's log-probability; KL(unablated || run), in nats; and 1
            where both have the same most probable token, or one in common if several tie, else 0.

        Raises:
            NotFinite: a divergence is not finite.
        """
        parts = []
        for before in self._before(run):
            own = run.logits[before.start :][: len(before.logits)]
            parts.append(_compared(own, before))
        total, kl, same = (torch.cat(one) for one in zip(*parts, strict=True))
        for kept in torch.nonzero(~kl.isfinite()).flatten().tolist():
            raise NotFinite(
                next(read.row for read in run.reads if kept in run.kept_at(read)),
                f"KL(unablated || ablated) of a token is {kl[kept].item()}",
                "with heads silenced, the model gives no probability to a token that it expects",
            )
        logits = run.logits
        return lambda at, targets: torch.stack([logits[at, targets] - total[at], kl[at], same[at]])

    def _before(self, run: Run) -> Iterator[_Before]:
        """The unablated model's logits at the kept tokens of a run."""
        if (held := self._held.get(_reads(run))) is not None:
            yield from held
            return
        if not self.holds:
            assert run.unablated is not None, "prefixes are not shared without states"
            yield from _Before.of(run.unablated())
            return
        assert self._engine is not None, "states are held of engines that unembed them"
        states = self._states_of(run)
        step = max(1, UNEMBEDDED_AT_ONCE // run.logits.shape[1])
        for start in range(0, len(states), step):
            yield from _Before.of(self._engine.unembed(states[start : start + step]), start)

    def _states_of(self, run: Run) -> FinalStates:
        """The unablated model's states at the kept tokens of a run."""
        found: Tensor | None = None
        for read in run.reads:
            own = self._states[read.row]
            assert own is not None, "every input was run without an ablation"
            if found is None:
                found = own.new_empty(len(run.logits), own.shape[1])
            found[run.kept_at(read)] = own[list(read.which)]
        assert found is not None, "a run is read"
        return found

    def _unembeds(self, run: Run) -> bool:
        """Whether the engine's unembedding makes the run's logits of its states."""
        if self._engine is None or run.states is None:
            return False
        few = slice(0, PROVEN_ON)
        again, own = self._engine.unembed(run.states[few]), run.logits[few]
        if again.shape != own.shape:
            return False
        masked = own == -torch.inf
        if not bool(((again == -torch.inf) == masked).all()):
            return False
        own, again = own.masked_fill(masked, 0), again.masked_fill(masked, 0)
        exact = self._engine.dtype in (torch.float32, torch.float64)
        return bool((again - own).norm() <= (1e-4 if exact else 1e-2) * own.norm())


def _reads(run: Run) -> Reads:
    """What a run reads. Runs that read the same keep the same tokens, in the same order."""
    return tuple((one.row, tuple(one.which), tuple(one.places)) for one in run.reads)


def _compared(logits: Logits, before: _Before) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithms of the total, KL(before || own) and whether the first choice is the same."""
    total, most = logits.logsumexp(dim=-1), logits.amax(dim=-1)
    # As few passes over the vocabulary as it takes: they are not free beside the unembedding.
    weight = (before.logits - before.largest[:, None]).exp_()
    weights = weight.sum(dim=-1)
    gap = before.logits - logits
    apart = torch.linalg.vecdot(weight, gap)
    if not bool(apart.isfinite().all()):
        # 0 log 0 = 0: also where both mask a token, and the gap is NaN.
        apart = (weight * gap).masked_fill_(weight == 0, 0).sum(dim=-1)
    kl = apart / weights - (before.largest + weights.log() - total)
    rows, tokens = before.best
    same = torch.zeros_like(kl)
    same[rows[logits[rows, tokens] == most[rows]]] = 1
    return total, kl.clamp(min=0), same
