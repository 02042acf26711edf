"""The data and the HTML of the explorer's page."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from markupsafe import Markup

from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.html import as_json, environment, plain, source
from inactive_heads.names import OURS

MOST_CELLS = 512
"""The most cells per side of a drawn pattern: a screen has no room for more."""

TITLE_LENGTH = 60
"""Length of the titles in the menu of texts, in characters."""


def head_table(
    scores: xr.DataArray,
    standings: xr.Dataset,
    definitions: Mapping[str, str],
    words: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """The data of the heatmap, and the scores and texts to choose from.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        standings: from `head_standings`.
        definitions: each score's definition in one line.
        words: the token strings of every text.

    Returns:
        JSON-compatible values. ``label`` is the score's name with a mark if it is this project's
        and not the paper's. ``mean``, ``rank`` and ``rank_in_layer`` of each score are flat
        lists, by layer, then by head, with ``n_heads`` places for each layer; ``heads_in`` says how
        many heads each layer has.
    """
    entries = []
    for name, side in zip(scores["score"].to_numpy(), scores["inactive"].to_numpy(), strict=True):
        one = standings.sel(score=name)
        entry = {kind: one[kind].to_numpy().ravel() for kind in ("mean", "rank", "rank_in_layer")}
        about = definitions.get(str(name), "")
        label = f"{name} (ours)" if name in OURS else str(name)
        named = {"name": str(name), "label": label}
        entries.append({**named, "side": str(side), "about": about, **entry})
    return plain(
        {
            "model": scores.attrs["model"],
            "scores": entries,
            "layers": scores["layer"].to_numpy(),
            "n_heads": scores.sizes["head"],
            "heads_in": exists_at(scores).sum(axis=1),
            "n_tokens": [len(tokens) for tokens in words],
            "titles": [_title(tokens[:TITLE_LENGTH]) for tokens in words],
            "static": False,
        }
    )


def _title(tokens: Sequence[str]) -> str:
    """The first words of a text, or its first token ids if there is no tokenizer."""
    between = " " if all(token.isdigit() for token in tokens) else ""
    return " ".join(re.findall(r"\w+", between.join(tokens)))[:TITLE_LENGTH]


def encoded_pattern(pattern: Float[np.ndarray, "query key"]) -> dict[str, Any]:
    """An attention pattern in the page's binary format.

    A cell holds the largest weight in a square of ``block`` × ``block`` weights, so that a thin
    line in an otherwise empty pattern stays visible. Up to 512 tokens, ``block`` is 1.

    Args:
        pattern: ``(query, key)``, weights from 0 to 1.

    Returns:
        ``side``, the number of cells per side; ``block``; and ``cells``, bytes in row-major
        order. A cell is a little-endian unsigned 16-bit integer: the square root of the weight,
        in 65535ths; the weight is off by at most 2e-5.
    """
    n = len(pattern)
    block = -(-n // MOST_CELLS)
    side = -(-n // block)
    padded = np.zeros((side * block, side * block), dtype=np.float32)
    padded[:n, :n] = pattern
    largest = padded.reshape(side, block, side, block).max(axis=(1, 3))
    cells = np.round(np.sqrt(np.clip(largest, 0, 1)) * 65535).astype("<u2")
    return {"side": side, "block": block, "cells": cells.tobytes()}


def explorer_script() -> str:
    """The script of the explorer's page.

    Returns:
        The source of one ES module.
    """
    return source("explorer_draw.js") + source("explorer.js")


def explorer_style() -> str:
    """The style sheet of the explorer's page.

    Returns:
        CSS.
    """
    return source("explorer.css")


def explorer_page(state: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> str:
    """A static HTML page of the explorer.

    Args:
        state: the values of the widget's synchronized traits.
        views: for each head that can be clicked, its ``view`` and its losses ``alone``.

    Returns:
        One HTML file that opens offline.
    """
    held = [
        dict(one) | {"view": one["view"] | {"pattern": _as_text(one["view"]["pattern"])}}
        for one in views
    ]
    data = {**state, "table": state["table"] | {"static": True}, "views": held}
    template = environment().get_template("explorer.html.j2")
    return template.render(
        model=state["table"]["model"],
        style=Markup(explorer_style()),
        script=Markup(explorer_script()),
        data=Markup(as_json(data)),
    )


def _as_text(pattern: Mapping[str, Any]) -> dict[str, Any]:
    return dict(pattern) | {"cells": base64.b64encode(pattern["cells"]).decode("ascii")}
