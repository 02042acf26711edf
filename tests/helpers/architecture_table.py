"""The page docs/architectures.md, as `tests/architectures.py` found things."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

from helpers.architecture_checks import CRASHED, REFUSED, WRONG, YES, Outcome
from helpers.places import ROOT
from helpers.tiny_architectures import ENCODERS, NOT_BUILT, NOT_DECODERS, architectures
from helpers.tiny_presets import preset_models

PAGE = ROOT / "docs" / "architectures.md"
START, END = "<!-- table: written by tests/architectures.py -->", "<!-- end of table -->"


def write(found: Sequence[Outcome]) -> None:
    """Write the page's tables anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n\n{tables(found)}\n\n{END}{after}", "utf-8")


def versions() -> str:
    """What the page says of the versions that were checked."""
    return f"transformers {version('transformers')}, TransformerLens {version('transformer-lens')}"


def tables(found: Sequence[Outcome]) -> str:
    """Counts, a row for each architecture, and a row for each kind of preset."""
    of: dict[str, list[Outcome]] = {}
    for one in found:
        of.setdefault(one.model_type, []).append(one)
    types = {name: of[name] for name in architectures()}
    encoders = {name: types[name] for name in ENCODERS}
    decoders = {name: types[name] for name in types if name not in ENCODERS}
    presets = {name: of[name] for name in preset_models()}
    columns = "attention weights | RON | shared beginnings | why not"
    lines = [
        f"With {versions()}.",
        "",
        f"The mapping has {len(types) + len(NOT_DECODERS) + len(NOT_BUILT)} types. Of "
        f"{len(decoders)} decoders, {_counts(decoders)}. Of {len(encoders)} encoders that an option "
        f"makes decoders, {_counts(encoders)}.",
        "",
        f"| type | right by | {columns} |",
        "|---|---|---|---|---|---|",
        *(_row(f"`{name}`", results) for name, results in types.items()),
        *(
            f"| `{name}` | – | – | – | – | not tried: {why} |"
            for name, why in sorted((NOT_DECODERS | NOT_BUILT).items())
        ),
        "",
        "## Presets",
        "",
        f"Tiny models with the head counts of each preset: {_counts(presets)}.",
        "",
        f"| architecture and heads | presets | right by | {columns} |",
        "|---|---|---|---|---|---|---|",
        *(
            _row(f"{name} | {', '.join(f'`{one}`' for one in preset_models()[name])}", results)
            for name, results in presets.items()
        ),
    ]
    return "\n".join(lines)


def _counts(results: dict[str, list[Outcome]]) -> str:
    kinds = Counter(_kind(one) for one in results.values())
    return (
        f"{kinds['flash']} are right by flash, {kinds['lens']} by lens only, {kinds[REFUSED]} are "
        f"refused by both, {kinds[WRONG]} are wrong or crash"
    )


def _kind(results: Sequence[Outcome]) -> str:
    by = {one.engine: one.status for one in results}
    if {WRONG, CRASHED} & set(by.values()):
        return WRONG
    return next((engine for engine in ("flash", "lens") if by[engine] == YES), REFUSED)


def _row(first: str, results: Sequence[Outcome]) -> str:
    right = [one for one in results if one.status == YES]
    failed = [one for one in results if one.status in (WRONG, CRASHED)]
    best = right[0] if right else None
    cells = [
        first,
        ", ".join(one.engine for one in right) or "none",
        "–" if best is None else best.checks["attention"],
        "–" if best is None else "yes" if best.reads == YES else "no",
        best.shares if best is not None and best.shares in (YES, "no") else "–",
        "; ".join(f"{one.engine}: **{one.status}** {_short(one.reason)}" for one in failed)
        or _reasons(results),
    ]
    return "| " + " | ".join(cells) + " |"


def _reasons(results: Sequence[Outcome]) -> str:
    """Why flash does not take it; and why lens does not, if neither does."""
    refused = [one for one in results if one.status == REFUSED]
    if "flash" not in [one.engine for one in refused]:
        return ""
    return "; ".join(f"{one.engine}: {_short(one.reason)}" for one in refused)


def _short(reason: str) -> str:
    """A reason without what every message says: which model it is, and what to do."""
    reason = re.sub(r"^the architecture \w+ of 'tiny' |^the model |^a layer \w+ ", "", reason)
    reason = re.sub(r":? engine=.*|; (use|check|nor can) .*", "", reason)
    reason = re.sub(r" of 'tiny'|'tiny' ", "", reason)
    return textwrap.shorten(reason, 160, placeholder=" …").replace("|", "/")
