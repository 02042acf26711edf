"""Every family of models, by both engines, against Hugging Face's plain eager attention.

What is checked is written in docs/families.md; after a change there, ``make families`` (or
WRITE_FAMILIES=1 for this file) writes its table anew.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.closeness import assert_close
from helpers.places import ROOT
from helpers.preset_configs import CONFIGS
from helpers.preset_networks import tiny as scaled_down
from helpers.tiny_families import samples, tiny

import inactive_heads as ih
from inactive_heads.cli.preset_table import find_presets
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.models.model import Model

PAGE = ROOT / "docs" / "families.md"
START, END = "<!-- table: written by tests/engines/test_families.py -->", "<!-- end of table -->"

FAMILIES = {
    "gpt2": "GPT-2: learned positions, biases, q, k and v in one matrix",
    "gpt_neox": "Pythia: rotary positions on a part, biases, q, k and v of a head after another",
    "llama": "Llama 3, SmolLM2, Falcon 3: grouped-query attention",
    "olmo2": "OLMo 2: norms of q and k, a norm after attention",
    "qwen2": "Qwen2.5: grouped-query attention, biases of q, k and v",
    "qwen3": "Qwen3: grouped-query attention, norms of q and k per head",
    "gemma2": "Gemma 2: soft-capped logits, sliding windows, a norm after attention",
    "gemma3_text": "Gemma 3: norms of q and k, sliding windows, a norm after attention",
    "mistral": "Mistral: grouped-query attention, sliding window",
    "phi": "Phi-1.5, Phi-2: rotary positions on a part, biases",
    "phi3": "Phi-3.5, Phi-4: q, k and v in one matrix, sliding window",
}
BY_PRESET = {
    "gemma4_text": "Gemma 4",
    "qwen3_5_text": "Qwen3.5",
    "qwen3_5_moe_text": "Qwen3.5",
    "qwen3_next": "Qwen3-Next",
    "llama4_text": "Llama 4",
    "gpt_oss": "gpt-oss",
    "olmo3": "OLMo 3",
    "smollm3": "SmolLM3",
    "granitemoehybrid": "Granite 4",
    "ministral3": "Ministral 3",
    "lfm2": "LFM2",
    "deepseek_v2": "DeepSeek-V2-Lite",
    "mixtral": "Mixtral",
}
"""Architectures of which tests/models/test_preset_sizes.py runs scaled-down presets."""
ENGINES: dict[str, Callable] = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny")),
}
ZEROED_BY = ("AHON (LN)", "AWFT", "AVVN")
INPUTS = samples((11, 7, 1))
ZEROED_INPUTS = INPUTS[:2]
YES = "yes"


@functools.cache
def expected(family):
    """A tiny model, its scores ``(score, input, layer, head)``, and what zeroing by each gives.

    Scores are of eager attention in the model's own float32; zeroing is in float64, every layer
    scored anew on what the zeroing before it left.
    """
    network = tiny(family)
    layers = [reference.run(network, tokens, dtype=torch.float32)[1] for tokens in INPUTS]
    by_input = [[reference.scores(layer) for layer in one] for one in layers]
    scores = np.array(
        [[[row[name] for row in one] for one in by_input] for name in ih.PAPER_SCORES]
    )
    zeroed = {}
    for name in ZEROED_BY:
        threshold = gap(scores[list(ih.PAPER_SCORES).index(name)])
        zeroed[name] = (
            threshold,
            [reference.per_input(network, one, name, threshold) for one in ZEROED_INPUTS],
        )
    return network, scores, zeroed


def gap(values):
    """A threshold near the middle, in the widest of the gaps there: rounding does not decide."""
    ordered = np.unique(values)
    middle = len(ordered) // 2
    near = ordered[middle - 4 : middle + 4]
    at = int(np.diff(near).argmax())
    return float((near[at] + near[at + 1]) / 2)


@functools.cache
def checked(family, engine):
    """What holds for a family by an engine: "yes", or why it could not be asked."""
    network, scores, zeroed = expected(family)
    try:
        model = Model(
            ENGINES[engine](copy.deepcopy(network)), None, {"model": "tiny"}, lambda text: []
        )
    except ih.UserError as error:
        return dict.fromkeys(("scores", "zeroing", "rows"), f"refused: {error}")
    found = ih.score_heads(model, INPUTS)
    assert_close(found, scores, rtol=1e-4, axis=(1, 2, 3))
    for name, (threshold, runs) in zeroed.items():
        run = ih.ablate(model, ZEROED_INPUTS, ih.PerInput(name, threshold))
        logits, masks = zip(*runs, strict=True)
        assert 0 < np.mean(masks) < 1
        np.testing.assert_array_equal(run.zeroed, np.stack(masks))
        last = np.stack([one[-1] for one in logits])
        assert_close(run.logits, last, rtol=1e-4)
    rows = "–" if engine == "lens" else YES if model.engine.shares_prefixes() else "no"
    return {"scores": YES, "zeroing": YES, "rows": rows}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_by_an_engine(family, engine):
    found = checked(family, engine)
    assert (found["scores"], found["zeroing"]) == (YES, YES), found


@pytest.mark.parametrize(
    ("family", "options", "engine", "message"),
    [
        (
            "reformer",
            {"is_decoder": True, "axial_pos_embds": False, "num_attention_heads": 2},
            "flash",
            "ReformerModelWithLMHead of 'tiny' computes attention neither by",
        ),
        ("persimmon", {}, "lens", "no bridge for the architecture PersimmonForCausalLM of 'tiny'"),
    ],
)
def test_what_cannot_be_visited_says_which_architecture_and_what_is_missing(
    family, options, engine, message
):
    other = {"flash": "lens", "lens": "flash"}[engine]
    with pytest.raises(ih.UserError, match=f'{message}.*try engine="{other}"'):
        ENGINES[engine](tiny(family, **options))


def test_every_preset_is_of_a_family_that_is_checked():
    presets = find_presets()
    assert all(preset.sizes is not None for preset in presets.values())
    used = {preset.sizes.architecture for preset in presets.values()}
    assert used == {*FAMILIES, *BY_PRESET} - {"gemma2"}
    assert {presets[name].sizes.architecture for name in CONFIGS} == set(BY_PRESET)


def runs(architecture):
    """Whether the flash engine runs a scaled-down preset of an architecture."""
    presets = find_presets()
    name = next(one for one in CONFIGS if presets[one].sizes.architecture == architecture)
    try:
        FlashEngine(scaled_down(name), name)
    except ih.UserError:
        return "refused"
    return YES


def table():
    """The table of the page, as the checks give it."""
    of_family: dict[str, list[str]] = {}
    for name, preset in find_presets().items():
        if not name.endswith("-paper"):
            of_family.setdefault(preset.sizes.architecture, []).append(f"`{name}`")
    lines = [
        "| architecture | engine | 15 scores | zeroing per input | shared beginnings run once |",
        "|---|---|---|---|---|",
    ]
    for family, about in FAMILIES.items():
        for engine in ENGINES:
            found = checked(family, engine)
            first = f"**{family}**: {about.split(': ', 1)[1]}" if engine == "flash" else ""
            cells = [first, engine, found["scores"], found["zeroing"], found["rows"]]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| architecture | models | presets |", "|---|---|---|"]
    for family, about in FAMILIES.items():
        presets = ", ".join(of_family.get(family, ["none"]))
        lines.append(f"| {family} | {about.split(':')[0]} | {presets} |")
    lines += ["", "| architecture | models | presets | flash |", "|---|---|---|---|"]
    for family, models in BY_PRESET.items():
        lines.append(f"| {family} | {models} | {', '.join(of_family[family])} | {runs(family)} |")
    return "\n".join(lines)


def test_the_page_says_what_was_checked():
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    shown, _, after = rest.partition(END)
    if os.environ.get("WRITE_FAMILIES"):
        PAGE.write_text(f"{before}{START}\n\n{table()}\n\n{END}{after}", "utf-8")
        return
    assert shown.strip() == table(), "docs/families.md is out of date; run `make families`"
