"""Sharing what inputs begin with: the same answers as from running every input alone."""

from __future__ import annotations

import copy
import random
from contextlib import ExitStack

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.tiny_families import N_HEADS, attention_modules, tiny
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.engines.attention import cascade as rows
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.engines.prefix_tree import Row, rows_of, segments_of
from inactive_heads.evaluation.log_likelihood import log_likelihoods
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.models.model import Model
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.score_heads import ScoreVisitor
from inactive_heads.tasks.base import ChoiceItem, ScoredInput
from inactive_heads.tasks.choice_task import ChoiceTask

# Full attention, a window shorter than the prompts, windows in some layers, soft-capped logits,
# sinks; keys of fewer heads or not; positions learned or rotary.
SHARING = ("llama", "gpt2", "gpt_neox", "mistral", "gemma2", "gemma3_text", "gpt_oss", "qwen3")
HEADS = [(0, 1), (0, 2), (1, 0), (2, 0), (2, 3)]


def draw(n, seed):
    return random.Random(seed).choices(range(1, 97), k=n)


def cloze(shots, question, answers):
    """The inputs of a question whose answers are several tokens."""
    context = shots + question
    first = len(context) - 1
    return [
        ScoredInput((context + answer)[:-1], list(range(first, first + len(answer))), answer)
        for answer in answers
    ]


def letters(context):
    return ScoredInput(context, [len(context) - 1] * 4, [3, 5, 7, 9])


def several(turn=0):
    """Two subjects with letters, one with cloze, an input alone, one token, a prefix itself."""

    def own(n, seed):
        return draw(n, 100 * turn + seed)

    algebra, physics, law = own(21, 1), own(13, 2), own(9, 3)
    inputs = [letters(algebra + own(n, n)) for n in (5, 9, 5, 1)]
    inputs += [letters(physics + own(n, n)) for n in (8, 3, 11)]
    for seed in (40, 41):
        answers = [own(n, seed + n) for n in (1, 3, 4, 2)]
        inputs += cloze(law, own(6, seed), answers)
    inputs += [letters(own(30, 50)), letters([7]), letters(algebra), letters(algebra)]
    random.Random(0).shuffle(inputs)
    return inputs


def model_of(network):
    return Model(FlashEngine(network, "tiny"), None, {"model": "tiny"}, lambda text: [])


def means(network):
    generator = torch.Generator().manual_seed(5)
    layers = sorted(attention_modules(network))
    values = torch.randn(len(layers), N_HEADS, 8, generator=generator).numpy()
    return xr.DataArray(values, dims=("layer", "head", "d_head"), coords={"layer": layers})


def alone(network, one, heads, replacement):
    """Log-probabilities by Hugging Face's model, one input, heads replaced at W_O's input."""
    with ExitStack() as stack:
        for layer, module in attention_modules(network).items():
            names = ("o_proj", "out_proj", "c_proj", "dense")
            projection = next(getattr(module, name) for name in names if hasattr(module, name))

            def replace(_, given, layer=layer):
                z = given[0].clone().unflatten(-1, (N_HEADS, -1))
                for at, head in heads:
                    if at == layer:
                        value = 0.0 if replacement is None else replacement.sel(layer=layer)[head]
                        z[..., head, :] = torch.as_tensor(np.asarray(value), dtype=z.dtype)
                return (z.flatten(-2),)

            stack.callback(projection.register_forward_pre_hook(replace).remove)
        with torch.no_grad():
            logits = network(torch.tensor([one.tokens]), use_cache=False).logits[0].double()
    return logits.log_softmax(-1)[one.positions, one.targets].numpy()


def n_through(network, run):
    """How many tokens go through the model while ``run`` does."""
    seen = []
    embedding = network.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0].numel()))
    found = run()
    handle.remove()
    return found, sum(seen)


def shared(model, inputs, ablation=None, batch_size="auto"):
    recorder = ablation and ZeroedRecorder(ablation, model.shape, len(inputs))
    found = log_likelihoods(
        model, inputs, recorder, advance=lambda done: None, batch_size=batch_size
    )
    return found, recorder


@pytest.fixture(scope="module", params=SHARING)
def network(request):
    return tiny(request.param)


@pytest.mark.parametrize("replaced", ["nothing", "zero", "mean"])
@pytest.mark.parametrize("batch_size", ["auto", 1])
def test_answers_are_those_of_every_input_alone(network, replaced, batch_size):
    model, inputs = model_of(network), several()
    assert model.engine.shares_prefixes()
    heads = [] if replaced == "nothing" else HEADS
    replacement = means(network) if replaced == "mean" else None
    ablation = None if replaced == "nothing" else ih.Fixed(heads, replacement)
    (found, recorder), n_run = n_through(
        network, lambda: shared(model, inputs, ablation, batch_size)
    )
    assert n_run < 0.6 * sum(len(one.tokens) for one in inputs)
    for one, values in zip(inputs, found, strict=True):
        expected = alone(network, one, heads, replacement)
        np.testing.assert_allclose(values, expected, atol=1e-4)
    if recorder:
        assert {tuple(map(int, head)) for head in np.argwhere(recorder.masks.all(0))} == set(HEADS)
        assert recorder.masks.any(0).sum() == len(HEADS)


def test_where_pytorch_has_no_kernel_a_mask_does_it(monkeypatch):
    monkeypatch.setattr(rows, "flash_attention", lambda *given, **named: None)
    network = tiny("llama")
    model, inputs = model_of(network), several()
    assert model.engine.shares_prefixes()
    found, _ = shared(model, inputs, ih.Fixed(HEADS), batch_size=2)
    expected = [alone(network, one, HEADS, None) for one in inputs]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-4)


def test_in_half_precision_sharing_changes_rounding_only():
    network = tiny("llama").bfloat16()
    exact, model = copy.deepcopy(network).double(), model_of(network)
    assert model.engine.shares_prefixes()
    # Few inputs' errors are a matter of luck, and of the processor.
    inputs = [one for turn in range(8) for one in several(turn)]
    truth = np.concatenate([alone(exact, one, HEADS, None) for one in inputs])
    whole = np.concatenate([alone(network, one, HEADS, None) for one in inputs])
    found = np.concatenate(shared(model, inputs, ih.Fixed(HEADS))[0])
    assert np.abs(found - truth).mean() < 1.25 * np.abs(whole - truth).mean()


def test_a_prefix_runs_once_whatever_the_rows():
    network = tiny("llama")
    model, prefix = model_of(network), draw(20, 1)
    inputs = [letters([*prefix, first, *draw(4, first)]) for first in range(1, 7)]
    assert model.engine.shares_prefixes()
    for batch_size in ("auto", 1, 2):  # one row; prefix and a question, then five; …
        _, n_run = n_through(
            network, lambda size=batch_size: shared(model, inputs, ih.Fixed(HEADS), size)
        )
        assert n_run == 20 + 6 * 5


def test_what_answers_share_within_a_question_runs_once_too():
    network = tiny("llama")
    model, shots = model_of(network), draw(20, 1)
    inputs = cloze(shots, [1, *draw(9, 2)], [[5, 1, 2], [6, 1, 2], [7, 1, 2]])
    inputs += cloze(shots, [2, *draw(9, 3)], [[5, 1, 2], [6, 1, 2], [7, 1, 2]])
    assert model.engine.shares_prefixes()
    _, n_run = n_through(network, lambda: shared(model, inputs, ih.Fixed(HEADS)))
    assert n_run == 20 + 2 * (10 + 3 * 2)


def test_inputs_by_hand():
    inputs = [[1, 2, 3, 4], [9], [1, 2, 3], [1, 2, 5, 6], [1, 2, 5, 7], [1, 2, 3]]
    segments = segments_of(inputs)
    found = [(list(s.tokens), s.start, list(s.members), list(s.ends)) for s in segments]
    assert found == [
        ([1, 2], 0, [2, 5, 0, 3, 4], []),
        ([3], 2, [2, 5, 0], [2, 5]),
        ([4], 3, [0], [0]),
        ([5], 2, [3, 4], []),
        ([6], 3, [3], [3]),
        ([7], 3, [4], [4]),
        ([9], 0, [1], [1]),
    ]
    names = {segment: number for number, segment in enumerate(segments)}
    assert [names.get(segment.parent) for segment in segments] == [None, 0, 1, 0, 3, 3, None]
    rows = [
        tuple([names[s] for s in part] for part in (row.before, row.segments, row.after))
        for row in rows_of(segments, lambda segment: len(segment.tokens) / 2)
    ]
    assert rows == [
        ([], [0], [0]),
        ([0], [1, 2], [0]),
        ([0], [3, 4], [0, 3]),
        ([0, 3], [5, 6], []),
    ]


def test_a_beginning_too_short_to_be_worth_it_is_not_cut_off():
    long = [[1, 2, *draw(100, seed)] for seed in range(5)]
    assert [segment.start for segment in segments_of(long)] == [0] * 5
    assert [segment.start for segment in segments_of([[1, 2, n] for n in range(5)])] == [0] + [
        2
    ] * 5


def test_segments_put_every_input_together_again():
    generator = random.Random(3)
    for _ in range(50):
        inputs = [
            generator.choices((1, 2), k=generator.randint(1, 9))
            for _ in range(generator.randint(1, 12))
        ]
        segments = segments_of(inputs)
        for number, tokens in enumerate(inputs):
            (last,) = [segment for segment in segments if number in segment.ends]
            path = [*last.above, last]
            assert [token for segment in path for token in segment.tokens] == tokens
            assert path == [segment for segment in segments if number in segment.members]
        for row in rows_of(segments, lambda segment: len(segment.tokens) / 6):
            at_hand = {*row.before, *row.segments}
            assert all(higher in at_hand for one in row.segments for higher in one.above)
            assert at_hand.issuperset(row.after)


def text(n, seed):
    return "".join(map(chr, draw(n, seed)))


def test_a_tasks_answers_and_zeroed_heads():
    network, examples = tiny("llama"), text(20, 1)
    items = [
        ChoiceItem(f"q{n}", "s", examples + text(5, n), ("AB", "CDE", "F", "G"), n % 4)
        for n in range(5)
    ]
    engines = FlashEngine(network, "tiny"), LensEngine(bridge_of(copy.deepcopy(network), "tiny"))
    models = [
        Model(engine, None, {"model": "tiny"}, lambda text: list(map(ord, text)))
        for engine in engines
    ]
    task = ChoiceTask("t", items, "cloze", 0)
    flash, lens = (ih.evaluate(model, task, ih.Fixed(HEADS)) for model in models)
    assert flash.zeroed.equals(lens.zeroed)
    assert int(flash.zeroed.sum()) == len(HEADS) * 5 * 4
    logprobs = (np.stack(result.items.choice_logprobs) for result in (flash, lens))
    np.testing.assert_allclose(*logprobs, atol=1e-4)
    assert flash.items.correct.equals(lens.items.correct)


def test_whoever_looks_sees_every_input():
    model, inputs = model_of(tiny("llama")), several()
    looking = ScoreVisitor(model, get_scores(["AHON"]), len(inputs))
    log_likelihoods(model, inputs, looking, advance=lambda done: None)
    assert np.isfinite(looking.values).all()


def dynamic(**rope):
    parameters = {"rope_theta": 1e4, "factor": 2.0, **rope}
    return tiny_llama(rope_parameters=parameters)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny("lfm2"),  # convolutions between its layers of attention
        lambda: dynamic(rope_type="dynamic"),  # angles that depend on the longest input of a batch
    ],
)
def test_models_whose_tokens_share_more_than_keys_are_run_whole(make):
    network = make()
    model, inputs = model_of(network), several()
    assert not model.engine.shares_prefixes()
    (found, recorder), n_run = n_through(network, lambda: shared(model, inputs, ih.Fixed([(0, 1)])))
    assert n_run >= sum(len(one.tokens) for one in inputs)
    assert recorder.masks[:, 0, 1].all()
    expected = [alone(network, one, [(0, 1)], None) for one in inputs]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-4)


def test_a_model_that_shares_wrongly_is_found_out(monkeypatch):
    network = tiny("llama")
    forward = network.forward
    monkeypatch.setattr(  # as one that counts positions itself would
        network, "forward", lambda *given, position_ids=None, **named: forward(*given, **named)
    )
    assert not FlashEngine(network, "tiny").shares_prefixes()


def test_nothing_is_left_behind_when_a_row_fails():
    network = tiny("llama")
    model, inputs = model_of(network), several()
    before, (expected, _) = network.config._attn_implementation, shared(model, inputs)

    def broken(layer):
        raise ArithmeticError(layer)

    row = Row(segments_of([one.tokens for one in inputs]))
    with pytest.raises(ArithmeticError):
        model.engine.run_row(row, torch.ones(1, len(row.tokens), dtype=torch.bool), broken)
    assert network.config._attn_implementation == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    again, _ = shared(model, inputs)
    assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))


@pytest.mark.usefixtures("demo_model")  # for its reasons to skip
def test_the_bundled_model_answers_mmlu_alike(mmlu_folder):
    model = ih.load_model(dtype="float32")
    task = ih.load_task("mmlu", data=mmlu_folder, subjects=["astronomy"], limit=4)
    inputs = PreparedTask.of(model, task).inputs
    layers, heads = model.shape.n_layers, model.shape.n_heads
    ablation = ih.Fixed(np.random.default_rng(0).random((layers, heads)) < 0.1)
    network = model.engine.network
    assert model.engine.shares_prefixes()
    (found, _), n_run = n_through(network, lambda: shared(model, inputs, ablation))
    whole, n_whole = n_through(
        network,
        lambda: log_likelihoods(
            model, inputs, lambda heads: ablation(heads), advance=lambda done: None
        ),
    )
    assert n_run < 0.6 * n_whole
    np.testing.assert_allclose(np.stack(found), np.stack(whole), atol=1e-4)
    assert np.array_equal(np.argmax(found, axis=1), np.argmax(whole, axis=1))
