"""What the head explorer computes, against eager attention in float64; and what its page holds."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import reference
from helpers.closeness import assert_close
from helpers.models_on_disk import WORDS, word_tokenizer
from helpers.tiny_models import NETWORKS, tiny, tiny_llama

import inactive_heads as ih
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.engines.attention import blockwise
from inactive_heads.engines.attention.attend import attend
from inactive_heads.engines.attention.inputs import AttentionInputs
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.explorer.head_view import head_standings, head_view, token_losses, token_strings
from inactive_heads.explorer.page import encoded_pattern
from inactive_heads.models.model import Model

TOKENS = [11, 3, 96, 4, 8, 70, 2, 2, 51, 33, 90]
TEXTS = [TOKENS, list(range(20, 50)), [7, 9]]
HOSTILE = "</script><img src=x onerror=alert(1)>"


def model_of(network, kind="flash", tokenizer=None) -> Model:
    engine = (
        FlashEngine(network, "tiny")
        if kind == "flash"
        else LensEngine(bridge_of(copy.deepcopy(network), "tiny"))
    )

    def encode(text):
        return tokenizer(text).input_ids

    return Model(engine, tokenizer, {"model": "tiny"}, encode)


@pytest.fixture(scope="module")
def llama() -> Model:
    return model_of(tiny_llama())


def test_the_view_of_a_head_is_eager_attentions(network):
    _, layers = reference.run(network, TOKENS)
    for kind in ("flash", "lens"):
        view = head_view(model_of(network, kind), TOKENS, layer=1, head=2)
        pattern, v, z = layers[1].A[2], layers[1].v[:, 2], layers[1].z[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nansum(pattern * np.log(pattern), axis=1)
        expected = {
            "pattern": pattern,
            "first_token_weight": pattern[:, 0],
            "entropy": entropy,
            "v_norm": np.linalg.norm(v, axis=1),
            "z_norm": np.linalg.norm(z, axis=1),
            "result_norm": np.linalg.norm(z @ layers[1].W_O[2], axis=1),
        }
        for name, values in expected.items():
            found = getattr(view, name)
            assert found.dtype == np.float32
            assert_close(found, values, rtol=1e-4, err_msg=name)


def test_a_view_of_a_model_that_shows_its_pattern_late():
    import transformers

    sizes = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    network = tiny(transformers.GPTJConfig(**sizes, rotary_dim=4))
    view = head_view(model_of(network, "lens"), TOKENS, layer=1, head=3)
    eager = network(torch.tensor([TOKENS]), output_attentions=True).attentions
    assert_close(view.pattern, eager[1][0, 3], rtol=1e-5)


@pytest.mark.parametrize("case", ["plain", "window", "bias", "softcap", "sinks"])
def test_one_heads_pattern_is_computed_from_it_alone(case, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, n, 20, 8, generator=generator) for n in (6, 2, 2))
    distance = torch.arange(20)[:, None] - torch.arange(20)[None, :]
    window = ((distance >= 0) & (distance < 5))[None, None]
    slopes = torch.arange(1, 7)[:, None, None] / 8
    bias = (-slopes * distance).masked_fill(distance < 0, torch.finfo(torch.float32).min)[None]
    changes = {
        "plain": {},
        "window": {"mask": window},
        "bias": {"mask": bias},
        "softcap": {"softcap": 1.5},
        "sinks": {"sinks": torch.linspace(-1, 2, 6)},
    }[case]
    first = torch.zeros(2, dtype=torch.long)
    _, statistics = attend(AttentionInputs(query, key, value, 0.5, first, **changes))
    whole = statistics.pattern()
    computed = []
    softmax = blockwise._softmax
    monkeypatch.setattr(
        blockwise, "_softmax", lambda *given: computed.append(given[0].shape[1]) or softmax(*given)
    )
    batch = TokenBatch.of([[1] * 20] * 2)
    for head in range(6):
        torch.testing.assert_close(statistics.pattern_of(head), whole[:, head])
        read = PatternStatistics(batch, whole).pattern_of(head)
        torch.testing.assert_close(read, whole[:, head])
    assert set(computed) == {1}


@pytest.mark.parametrize("kind", ["flash", "lens"])
def test_losses_with_heads_zeroed_are_the_references(network, kind):
    heads = [(0, 1), (2, 3)]
    masks = np.zeros((3, 4), dtype=bool)
    masks[tuple(zip(*heads, strict=True))] = True
    model = model_of(network, kind)
    for ablation, zeroed in ((None, None), (ih.Fixed(heads), masks)):
        logits, _ = reference.run(network, TOKENS, zeroed)
        shifted = logits[:-1] - logits[:-1].max(axis=1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        expected = -log_probs[np.arange(len(TOKENS) - 1), TOKENS[1:]]
        found = token_losses(model, TOKENS, ablation)
        assert_close(found, expected, rtol=1e-4)


def test_clicks_beside_a_cell_do_not_disturb_it(llama):
    alone = [head_view(llama, TOKENS, layer, head) for layer in range(3) for head in range(4)]
    losses = token_losses(llama, TOKENS)

    def both(place):
        view = head_view(llama, TOKENS, place // 4 % 3, place % 4)
        return view, token_losses(llama, TOKENS[: 11 - place % 3])

    with ThreadPoolExecutor(4) as threads:
        for place, (view, found) in enumerate(threads.map(both, range(48))):
            assert_close(view.pattern, alone[place % 12].pattern, rtol=1e-5)
            assert_close(found, losses[: len(found)], rtol=1e-4)


def test_the_places_of_heads():
    values = np.array([[[3.0, 1.0, 1.0], [5.0, np.nan, 0.5]], [[3.0, 1.0, 1.0], [5.0, 7.0, 0.5]]])
    scores = xr.DataArray(
        values[:, None],
        dims=("score", "sample", "layer", "head"),
        coords={"score": ["low", "high"], "inactive": ("score", ["below", "above"])},
    )
    places = head_standings(scores)
    np.testing.assert_array_equal(places["rank"][0], [[4, 2, 2], [5, np.nan, 1]])
    np.testing.assert_array_equal(places["rank_in_layer"][0], [[3, 1, 1], [2, np.nan, 1]])
    np.testing.assert_array_equal(places["rank"][1], [[3, 4, 4], [2, 1, 6]])
    np.testing.assert_array_equal(places["rank_in_layer"][1], [[1, 2, 2], [2, 1, 3]])


def test_tokens_read_as_in_their_text():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # As Llama 2's: decoding takes the space before the first word away.
    words = {word: i for i, word in enumerate(["<unk>", "▁the", "▁cat", "s", "<s>"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    pieces = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")
    network = tiny_llama()
    model = model_of(network, tokenizer=pieces)
    assert token_strings(model, [1, 2, 3, 2]) == ["the", " cat", "s", " cat"]
    assert token_strings(model_of(network), [5, 66]) == ["5", "66"]


@pytest.mark.parametrize("n", [1, 7, 512, 1300])
def test_a_pattern_survives_its_bytes(n):
    rng = np.random.default_rng(0)
    pattern = np.tril(rng.random((n, n)) ** 8).astype(np.float32)
    pattern /= pattern.sum(axis=1, keepdims=True)
    sent = encoded_pattern(pattern)
    side, block = sent["side"], sent["block"]
    cells = np.frombuffer(sent["cells"], "<u2").reshape(side, side)
    weights = (cells / 65535) ** 2
    assert block == (3 if n == 1300 else 1)
    assert side * block - n in range(block)
    for query, key in rng.integers(side, size=(200, 2)).tolist():
        rows, columns = (slice(at * block, (at + 1) * block) for at in (query, key))
        assert abs(weights[query, key] - pattern[rows, columns].max()) < 2e-5


def test_what_the_explorer_shows_of_a_head(llama, monkeypatch):
    explorer = ih.explore(llama, TEXTS, scores=["AHON", "AWFT"], progress=False)
    assert explorer.view == {}
    computed = []
    softmax = blockwise._softmax
    monkeypatch.setattr(
        blockwise, "_softmax", lambda *given: computed.append(given[0].shape[1]) or softmax(*given)
    )
    explorer.head = (1, 2)
    assert computed == [1]  # the pattern of this head, of this layer, on this text, and no other
    expected = head_view(llama, TOKENS, 1, 2)
    shown = explorer.view
    np.testing.assert_allclose(shown["entropy"], expected.entropy, rtol=1e-4)
    assert shown["tokens"] == [str(token) for token in TOKENS]
    scores = ih.score_heads(llama, TEXTS, scores=["AHON", "AWFT"])
    on_text = scores.sel(layer=1, head=2).isel(sample=0)
    np.testing.assert_allclose(shown["on_text"], on_text, rtol=1e-4)
    change = token_losses(llama, TOKENS, ih.Fixed([(1, 2)])) - token_losses(llama, TOKENS)
    after, before = (np.array(explorer.alone[name][1:]) for name in ("after", "before"))
    np.testing.assert_allclose(after - before, change, atol=2e-4)

    explorer.text = 1
    assert len(explorer.view["tokens"]) == 30
    table = explorer.table["scores"][1]
    np.testing.assert_allclose(
        np.reshape(table["mean"], (3, 4)), scores.sel(score="AWFT").mean("sample"), rtol=1e-4
    )


def test_the_selection_becomes_an_ablation(llama):
    explorer = ih.explore(llama, TEXTS, progress=False)
    explorer.score = "AHON (LN)"
    explorer.select_inactive(30)
    expected = ih.select_heads(explorer.scores, "AHON (LN)", 30)
    assert explorer.selection == ih.Fixed(expected).heads
    xr.testing.assert_equal(explorer.head_set(), expected)
    assert ih.Fixed(explorer.head_set()).heads == explorer.fixed().heads == explorer.selection

    zeroed = explorer.zero_selection()
    loss = ih.evaluate(llama, ih.TextTask("text", [TOKENS]), explorer.fixed()).summary()["loss"]
    assert zeroed["mean_after"] == pytest.approx(loss, rel=1e-4)
    assert zeroed["mean_after"] != zeroed["mean_before"]
    assert zeroed["heads"] == [list(head) for head in explorer.selection]

    explorer.selection = [(2, 1), (0, 0), (2, 1)]
    assert explorer.fixed().heads == [(0, 0), (2, 1)]


def test_what_a_page_asks_for(llama):
    explorer = ih.explore(llama, TEXTS, progress=False)
    explorer._handle_custom_msg({"ask": "select", "percent": 20}, [])
    assert explorer.selection == ih.Fixed(ih.select_heads(explorer.scores, "AHON (LN)", 20)).heads
    explorer._handle_custom_msg({"ask": "zero"}, [])
    assert explorer.zeroed["mean_after"] > 0
    assert explorer.problem == ""
    with pytest.raises(ih.UserError):
        explorer._answer(explorer, {"ask": "select", "percent": 120}, [])
    assert "from 0 to 100, not 120" in explorer.problem


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("head", (3, 0), "L3H0 is not in the model"),
        ("selection", [(0, 4)], "L0H4 is not in the model"),
        ("text", 3, "there is no text 3; the explorer has 0 to 2"),
        ("score", "AEQD", "made without the score 'AEQD'; it has AHON"),
        ("score", "AHONN", "did you mean 'AHON'"),
    ],
)
def test_what_is_not_there_is_refused(llama, trait, value, message):
    explorer = ih.explore(llama, TEXTS, scores=["AHON"], progress=False)
    with pytest.raises(ih.UserError, match=re.escape(message)):
        setattr(explorer, trait, value)


def test_what_cannot_be_explored_is_refused(llama, monkeypatch):
    with pytest.raises(ih.UserError, match="unknown score 'AHONN'"):
        ih.explore(llama, TEXTS, scores=["AHONN"])
    with pytest.raises(ih.UserError, match="text 1 has 1 token"):
        ih.explore(llama, [TOKENS, [5]])
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "anywidget" else found(name)
    )
    with pytest.raises(ih.UserError, match=r"pip install \"inactive-heads\[notebooks\]\""):
        ih.explore(llama, TEXTS)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    """A static copy about a model, a score and tokens that all would like to be HTML."""
    words = [*WORDS[:-1], HOSTILE]
    tokenizer = word_tokenizer(words=words)
    network = tiny_llama(vocab_size=len(words))
    model = Model(FlashEngine(network, "tiny"), tokenizer, {"model": HOSTILE}, lambda text: [])

    def score(heads: ih.HeadActivations) -> torch.Tensor:
        """A score <b>of one's own</b>."""
        return heads.mean_over_tokens(heads.z_norm)

    score.__name__ = HOSTILE
    texts = [[len(words) - 1, 3, 4, len(words) - 1, 5]]
    explorer = ih.explore(model, texts, scores=[score, "AWFT"], progress=False)
    explorer.head = (2, 1)
    explorer.selection = [(0, 0), (1, 3)]
    explorer.zero_selection()
    return explorer.to_html(heads=[(2, 1), (0, 3)])


def test_a_static_copy_is_one_file_and_what_it_is_told_stays_text(hostile_page):
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", hostile_page)
    data = re.search(r'id="explorer-data">(.*?)</script>', hostile_page, re.DOTALL)[1]
    assert "<" not in data
    state = json.loads(data)
    assert [one["view"]["head"] for one in state["views"]] == [1, 3]
    assert state["views"][0]["view"]["tokens"][0] == HOSTILE
    assert "<img" not in hostile_page


def test_a_static_copy_in_a_browser(hostile_page, browser, tmp_path):
    file, said = tmp_path / "heads.html", []
    file.write_text(hostile_page, "utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(180_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    explorer = page.locator(".ih-explorer")
    assert explorer.locator("h3").inner_text() == "L2H1"
    assert explorer.locator(".ih-tokens").inner_text().count(HOSTILE) == 2
    assert explorer.locator(".ih-loss").inner_text().endswith("on text 0")
    assert explorer.locator("img").count() == 0
    page.locator('rect[data-head="0,3"]').click()
    assert explorer.get_attribute("data-shown") == "L0H3"
    page.locator(".ih-heads").press("ArrowLeft")
    assert "holds L2H1, L0H3; the notebook" in explorer.inner_text()
    explorer.get_by_label("score").select_option("AWFT")
    assert "Dark: towards inactive (above)" in explorer.inner_text()
    page.locator(".ih-heads").press("ArrowRight")
    explorer.locator("canvas").hover(position={"x": 3, "y": 3})
    assert explorer.locator(".ih-tip").inner_text().endswith("1.0000")
    assert said == []
    page.close()


def test_a_bridge_as_it_is():
    bridge = bridge_of(NETWORKS["gpt2"](), "tiny")
    explorer = ih.explore(bridge, TEXTS, scores=["AHON"], progress=False)
    explorer.head = (2, 3)
    assert len(explorer.view["entropy"]) == len(TOKENS)
