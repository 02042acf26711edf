"""The explorer's widget: the state of its page, and its responses to clicks.

The page (``templates/explorer.js``) draws and sends requests; everything it shows is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import traitlets
import xarray as xr

from inactive_heads.ablation.ablations import Fixed
from inactive_heads.analysis.heads.existing import LAYER_SIZES
from inactive_heads.analysis.heads.thresholds import select_heads
from inactive_heads.errors import UserError
from inactive_heads.explorer.head_view import head_standings, head_view, token_losses, token_strings
from inactive_heads.explorer.page import (
    encoded_pattern,
    explorer_page,
    explorer_script,
    explorer_style,
    head_table,
)
from inactive_heads.html import plain
from inactive_heads.models.model import Model
from inactive_heads.scores.registry import get_score

Head = tuple[int, int]


class HeadExplorer(anywidget.AnyWidget):
    """The widget that `explore` returns.

    Args:
        model: the model.
        texts: the texts as token ids.
        scores: ``(score, sample, layer, head)``, from `score_heads` on the texts.
        definitions: score → its definition in words.

    Attributes:
        scores: every head's scores on the texts, from `score_heads`.
        standings: every head's mean scores and ranks, from `head_standings`.
        texts: the texts as token ids.
        score: the name of the score in the heatmap; can be set.
        text: the index of the text shown; can be set.
        head: the ``(layer, head)`` shown, or None; can be set.
        selection: the selected heads, as ``(layer, head)`` pairs; can be set.
    """

    _esm = explorer_script()
    _css = explorer_style()

    score = traitlets.Unicode().tag(sync=True)
    text = traitlets.Int(0).tag(sync=True)
    head = traitlets.Tuple(traitlets.Int(), traitlets.Int(), allow_none=True, default_value=None)
    head.tag(sync=True)
    selection = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Int())).tag(sync=True)
    # The page draws these and never sets them.
    table = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    alone = traitlets.Dict().tag(sync=True)
    zeroed = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        model: Model,
        texts: Sequence[list[int]],
        scores: xr.DataArray,
        definitions: Mapping[str, str],
    ) -> None:
        self._subject, self.texts, self.scores = model, list(texts), scores
        self.standings = head_standings(scores)
        self._words = [token_strings(model, tokens) for tokens in texts]
        self.lock = RLock()
        self._losses: dict[int, np.ndarray] = {}
        table = head_table(scores, self.standings, definitions, self._words)
        super().__init__(table=table, score=table["scores"][0]["name"])
        self.on_msg(self._answer)

    def head_set(self) -> xr.DataArray:
        """The selection as a mask.

        Returns:
            ``(layer, head)``, boolean, in the format of `select_heads`.
        """
        layers, heads = self.scores["layer"], self.scores["head"]
        sizes = {name: self.scores[name] for name in LAYER_SIZES if name in self.scores.coords}
        mask = xr.DataArray(
            np.zeros((layers.size, heads.size), dtype=bool),
            dims=("layer", "head"),
            coords={"layer": layers.to_numpy(), "head": heads.to_numpy(), **sizes},
        )
        for layer, head in self.selection:
            mask.loc[{"layer": layer, "head": head}] = True
        return mask

    def fixed(self) -> Fixed:
        """The selection as an ablation, for `ablate`, `evaluate` or a file.

            explorer.fixed().save("heads.json")

        Returns:
            The ablation that zeroes the selected heads for every input.
        """
        return Fixed(self.selection, about={"model": self._subject.name, "chosen": "by hand"})

    def select_inactive(self, percent: float) -> None:
        """Selects the most inactive heads by the score shown, as `select_heads` does.

        Args:
            percent: the percentage of heads to select, from 0 to 100.

        Raises:
            UserError: ``percent`` is outside 0 to 100.
        """
        self.selection = Fixed(select_heads(self.scores, self.score, percent)).heads

    def zero_selection(self) -> dict[str, Any]:
        """Runs the text shown with the selected heads zeroed, and shows the losses.

        Returns:
            ``heads``, the heads zeroed; ``text``, the text's index; ``before`` and ``after``, the
            loss at each token in nats (None at the first); ``mean_before`` and ``mean_after``,
            their means.
        """
        self.zeroed = self._losses_without(self.selection)
        return self.zeroed

    def to_html(
        self, path: str | Path | None = None, *, heads: Iterable[Head] | None = None
    ) -> str | None:
        """A static copy: one HTML file that opens offline, with the heatmap of every score.

        Args:
            path: the file to write. Default: none; the HTML is returned.
            heads: ``(layer, head)`` pairs that can be clicked in the copy, on the text shown.
                Default: the head shown.

        Returns:
            The HTML, or None if it was written to ``path``.

        Raises:
            UserError: the model does not have one of the heads.
        """
        kept = [self.head] if heads is None and self.head else list(heads or [])
        views = [
            {
                "view": self._head_on_text(layer, head),
                "alone": self._losses_without([(layer, head)]),
            }
            for layer, head in kept
        ]
        state = {name: getattr(self, name) for name in ("score", "text", "head", "selection")}
        state |= {"table": self.table, "zeroed": self.zeroed, "problem": ""}
        if self.head not in kept:
            state["head"] = kept[0] if kept else None
        html = explorer_page(state, views)
        if path is None:
            return html
        Path(path).write_text(html, "utf-8")
        return None

    @traitlets.validate("score")
    def _known_score(self, proposal: Any) -> str:
        names = self.scores["score"].to_numpy().tolist()
        if proposal["value"] not in names:
            get_score(proposal["value"])  # raises for unknown names, with the nearest one
            raise UserError(
                f"the explorer was made without the score {proposal['value']!r}; it has "
                f"{', '.join(names)}"
            )
        return str(proposal["value"])

    @traitlets.validate("text")
    def _known_text(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self.texts):
            raise UserError(
                f"there is no text {proposal['value']}; the explorer has 0 to {len(self.texts) - 1}"
            )
        return int(proposal["value"])

    @traitlets.validate("head")
    def _known_head(self, proposal: Any) -> Head | None:
        if proposal["value"] is not None:
            Fixed([proposal["value"]]).check(self._subject.shape)
        return proposal["value"]

    @traitlets.validate("selection")
    def _known_heads(self, proposal: Any) -> list[Head]:
        chosen = Fixed(proposal["value"])
        chosen.check(self._subject.shape)
        return chosen.heads

    @traitlets.observe("head", "text")
    def _show_head(self, change: Any) -> None:
        if self.head is None:
            self.view = {}
            return
        with _ShowsErrors(self):
            layer, head = self.head
            if (layer, head, self.text) != tuple(map(self.view.get, ("layer", "head", "text"))):
                self.view = self._head_on_text(layer, head)  # shown before the losses are known
                self.alone = self._losses_without([(layer, head)])

    def _head_on_text(self, layer: int, head: int) -> dict[str, Any]:
        """What one head does on the text shown, as the page reads it."""
        view = head_view(self._subject, self.texts[self.text], layer, head)
        on_text = self.scores.isel(sample=self.text).sel(layer=layer, head=head)
        along = ("first_token_weight", "entropy", "v_norm", "z_norm", "result_norm")
        shown = {
            "layer": layer,
            "head": head,
            "text": self.text,
            "tokens": self._words[self.text],
            "on_text": on_text.to_numpy(),
            **{name: getattr(view, name) for name in along},
        }
        return plain(shown) | {"pattern": encoded_pattern(view.pattern)}

    def _losses_without(self, heads: Sequence[Head]) -> dict[str, Any]:
        """Losses on the text shown with these heads zeroed, in the format of `zero_selection`."""
        tokens, place = self.texts[self.text], self.text
        if place not in self._losses:
            self._losses[place] = token_losses(self._subject, tokens)
        before, after = self._losses[place], token_losses(self._subject, tokens, Fixed(heads))
        found = {
            "heads": list(heads),
            "text": place,
            "before": [None, *before.tolist()],
            "after": [None, *after.tolist()],
            "mean_before": float(before.mean(dtype=np.float64)),
            "mean_after": float(after.mean(dtype=np.float64)),
        }
        return dict(plain(found))

    def _answer(self, widget: object, asked: Any, buffers: object) -> None:
        """Responds to a button of the page."""
        with _ShowsErrors(self):
            if asked["ask"] == "zero":
                self.zero_selection()
            elif asked["ask"] == "select":
                self.select_inactive(asked["percent"])


class _ShowsErrors:
    """Runs one response at a time, and shows its error in the widget before raising it.

    Notebooks may send two requests at once, in separate threads.
    """

    def __init__(self, explorer: HeadExplorer) -> None:
        self.explorer = explorer

    def __enter__(self) -> None:
        self.explorer.lock.acquire()
        self.explorer.problem = ""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.explorer.problem = f"{type(error).__name__}: {error}"
        self.explorer.lock.release()
