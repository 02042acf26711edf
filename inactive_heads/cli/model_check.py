"""What works with a model: everything is tried on a few tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from inactive_heads.ablation.ablate import ablate
from inactive_heads.ablation.ablations import Fixed, PerInput
from inactive_heads.ablation.generation import generate
from inactive_heads.ablation.mean_outputs import mean_head_outputs
from inactive_heads.engines.base import SharingEngine
from inactive_heads.engines.decoding import can_decode
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.chat_template import ChatTemplate
from inactive_heads.models.choose_engine import why_not
from inactive_heads.models.load import load
from inactive_heads.models.model import Model
from inactive_heads.names import PAPER_SCORES
from inactive_heads.scores.computable import why_not_computable
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.proposed import read_output_distance
from inactive_heads.scores.registry import get_score
from inactive_heads.scores.score_heads import score_heads
from inactive_heads.specs import ModelSpec
from inactive_heads.third_party import explained

LENGTHS = (9, 6)
"""The lengths of the inputs that are tried."""
NEW_TOKENS = 2
TEXT = "The cat sat on the mat."


class Line(NamedTuple):
    """One thing that was tried, and what came out."""

    what: str
    found: str


def check_model(spec: ModelSpec) -> list[Line]:
    """What works with a model.

    Args:
        spec: which model, and how it is loaded.

    Returns:
        What was tried and found, in words; the first line is the model's name.

    Raises:
        UserError: the model cannot be loaded, or none of the paper's scores can be computed.
    """
    with warnings.catch_warnings():
        # Said in the line "engine".
        warnings.filterwarnings("ignore", message=".* is run by engine=", category=Notice)
        model = load(spec)
    # Spread over the vocabulary: its first tokens are special.
    ids = [model.shape.d_vocab * n // (sum(LENGTHS) + 1) for n in range(1, sum(LENGTHS) + 1)]
    samples = [one[: model.shape.n_ctx] for one in (ids[: LENGTHS[0]], ids[LENGTHS[0] :])]
    lines = [
        Line("model", f"{model.name} ({model.provenance['architecture']})"),
        *_sizes(model),
        Line("scores", _scores(model, samples)),
        Line("RON, ROD", _tried(lambda: _proposed(model, samples))),
        *_zeroing(model, samples),
        Line("prefix sharing", _tried(lambda: _sharing(model))),
        Line("generation", _tried(lambda: _generation(model, samples[0]))),
        *_texts(model),
    ]
    # Last, since it may change the network.
    return [lines[0], Line("engine", _engine(model)), *lines[1:]]


def check_table(lines: Iterable[Line]) -> Table:
    """What `check_model` found, as a table to print.

    Args:
        lines: from `check_model`.

    Returns:
        A table without borders, one row per line.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(line.what, line.found)
    return table


def _sizes(model: Model) -> list[Line]:
    shape = model.shape
    kinds: dict[str, list[int]] = {}
    for layer in shape.layers:
        heads = shape.of(layer)
        groups = (
            ""
            if heads.n_key_value_heads == heads.n_heads
            else f" ({heads.n_key_value_heads} key/value heads)"
        )
        kinds.setdefault(f"{heads.n_heads} per layer{groups}, d_head {heads.d_head}", []).append(
            layer
        )
    alike = len(kinds) == 1
    found = [
        kind if alike else f"{kind}, in {len(layers)} layers" for kind, layers in kinds.items()
    ]
    return [
        Line("layers", f"{len(shape.layers)} with attention heads, of {shape.n_layers}"),
        Line("heads", "; ".join(found)),
        Line("context", f"{shape.n_ctx} tokens"),
        Line("dtype", f"{model.provenance['dtype']} on {model.provenance['device']}"),
    ]


def _engine(model: Model) -> str:
    name = str(model.provenance["engine"])
    if model.refused:
        return f"{name}; " + "; ".join(
            f"not {other}, as {reason}" for other, reason in model.refused.items()
        )
    engine = model.engine
    if not isinstance(engine, FlashEngine):
        return f"{name}, as asked for"
    reason = _tried(lambda: why_not("lens", engine.network, model.name))
    return f"{name}; not lens, as {reason}" if reason else f"{name}; lens can, too"


def _scores(model: Model, samples: Sequence[list[int]]) -> str:
    failed = why_not_computable(model, samples, get_scores())
    if not failed:
        return f"all {len(PAPER_SCORES)}"
    if len(failed) == len(PAPER_SCORES):
        raise UserError(f"no score of {model.name!r} can be computed: {failed[PAPER_SCORES[0]]}")
    return f"{len(PAPER_SCORES) - len(failed)} of {len(PAPER_SCORES)}; not {_by_reason(failed)}"


def _proposed(model: Model, samples: Sequence[list[int]]) -> str:
    distance = read_output_distance(mean_head_outputs(model, samples[:1], progress=False))
    failed = why_not_computable(model, samples, [get_score("RON"), distance])
    return f"not {_by_reason(failed)}" if failed else "yes"


def _by_reason(failed: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, reason in failed.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(many)}: {reason}" for reason, many in names.items())


def _zeroing(model: Model, samples: Sequence[list[int]]) -> list[Line]:
    shape = model.shape
    every = [(layer, head) for layer in shape.layers for head in range(shape.of(layer).n_heads)]

    def fixed() -> str:
        plain = ablate(model, samples, None, progress=False).logits
        changed = ablate(model, samples, Fixed(every), progress=False).logits
        return "no: it changes no logit" if bool((changed == plain).all()) else "yes"

    def per_input(score: str, beside: float) -> str:
        cut = beside * float(score_heads(model, samples, scores=[score], progress=False).median())
        masks = ablate(model, samples, PerInput(score, cut), progress=False).zeroed
        return "yes" if bool(masks.any()) else "no: it chooses no head"

    return [
        Line("zeroing, fixed", _tried(fixed)),
        Line("zeroing, by v and z", _tried(lambda: per_input("AHON (LN)", 1.001))),
        Line("zeroing, by attention", _tried(lambda: per_input("AWFT", 0.999))),
    ]


def _sharing(model: Model) -> str:
    engine = model.engine
    if not isinstance(engine, SharingEngine):
        return f"no: the engine {engine.name} runs every input whole"
    shares, why = _heard(engine.shares_prefixes)
    if shares:
        return "yes"
    if isinstance(engine, FlashEngine) and engine.angles:
        return "no: rotary angles depend on the length of an input"
    return f"no: {why or 'more than keys and values passes between tokens'}"


def _generation(model: Model, prompt: list[int]) -> str:
    engine, prompt = model.engine, prompt[: max(1, model.shape.n_ctx - NEW_TOKENS)]
    cached, why = _heard(lambda: isinstance(engine, FlashEngine) and can_decode(engine))
    generate(model, [prompt], max_new_tokens=NEW_TOKENS, progress=False)
    return "yes, with a cache" if cached else f"yes: {why or 'every token runs the whole text'}"


def _heard(ask: Callable[[], bool]) -> tuple[bool, str]:
    """An answer, and the notice that came with it; empty without one."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        answer = ask()
    notices = [str(one.message) for one in said if issubclass(one.category, Notice)]
    return answer, next(iter(notices), "")


def _texts(model: Model) -> list[Line]:
    tokenizer = model.tokenizer
    if tokenizer is None:
        missing = "none: give token ids, or --tokenizer with a folder or hub name"
        return [Line("tokenizer", missing)]

    def read() -> str:
        return (
            f"{type(tokenizer).__name__}, {len(tokenizer)} tokens; {TEXT!r} is {model.encode(TEXT)}"
        )

    def opening() -> str:
        first = tokenizer.bos_token_id
        starts = first is not None and model.encode(TEXT)[:1] == [first]
        return f"{model.provenance['bos']}: " + (
            f"a text starts with {tokenizer.bos_token}" if starts else "a text has none before it"
        )

    return [
        Line("tokenizer", _tried(read)),
        Line("bos", _tried(opening)),
        Line("chat template", _tried(lambda: _chat(model))),
    ]


def _chat(model: Model) -> str:
    if model.chat is not None:
        return f"on: {model.chat.record}"
    if not getattr(model.tokenizer, "chat_template", None):
        return "none"
    ChatTemplate.of(model.tokenizer, model.name)
    return "off; --chat-template on works"


def _tried(trial: Callable[[], str]) -> str:
    """What a trial found, or why it failed."""
    try:
        with explained("it fails", "it cannot be used with this model"):
            return trial()
    except UserError as error:
        return f"no: {error}"
