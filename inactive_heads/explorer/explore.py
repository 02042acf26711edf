"""The head explorer: all heads of a model at once, and what the one clicked does on a text."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from inactive_heads.errors import UserError
from inactive_heads.models.batching import Sample, encode_samples
from inactive_heads.models.load import as_model
from inactive_heads.scores.paper import DEFAULT_SCORE, get_scores
from inactive_heads.scores.registry import ScoreLike
from inactive_heads.scores.score_heads import score_heads
from inactive_heads.tasks.texts import cut_to, load_texts

if TYPE_CHECKING:
    from inactive_heads.explorer.widget import HeadExplorer

N_TEXTS, LONGEST = 4, 256
"""The bundled texts that are explored where none are given, and the tokens they are cut to."""


def explore(
    model: Any,
    texts: Sequence[Sample] | None = None,
    *,
    scores: Iterable[ScoreLike] | None = None,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> HeadExplorer:
    """A widget for notebooks: every head's score, and what a head does on a text when clicked.

        explorer = ih.explore(model, ["The cat sat on the mat."], scores=["AHON (LN)", my_score])
        explorer                    # shows it, in JupyterLab, VS Code and Colab
        explorer.selection          # the heads selected in it: [(5, 3), (11, 0)]
        ih.evaluate(model, task, explorer.fixed())

    Every text is scored once, before the widget is there; a head's pattern is computed when it
    is clicked, for that head alone.

    Args:
        model: what `load_model` gave, a TransformerBridge or a HookedTransformer.
        texts: texts, or lists of token ids, of two tokens or more; four bundled texts of at most
            256 tokens if not given.
        scores: names or functions; the paper's fifteen if not given.
        batch_size: samples scored together, or "auto".
        progress: whether to show a bar while scoring.

    Raises:
        UserError: anywidget is not installed, an unknown score, or a text that is shorter than
            two tokens or longer than the context.
    """
    if importlib.util.find_spec("anywidget") is None:
        raise UserError(
            'the head explorer needs anywidget: pip install "inactive-heads[notebooks]", '
            "and restart the kernel"
        )
    from inactive_heads.explorer.widget import HeadExplorer

    subject, asked = as_model(model), get_scores(scores)
    if texts is None:
        encoded = cut_to(subject, load_texts(n=N_TEXTS), LONGEST)
    else:
        encoded = encode_samples(subject, texts)
    for index, tokens in enumerate(encoded):
        if len(tokens) < 2:
            raise UserError(
                f"text {index} has {len(tokens)} token; the explorer shows next-token losses, "
                "which need 2 or more"
            )
    found = score_heads(subject, encoded, scores=asked, batch_size=batch_size, progress=progress)
    explorer = HeadExplorer(subject, encoded, found, {one.name: one.definition for one in asked})
    if scores is None:
        explorer.score = DEFAULT_SCORE
    return explorer
