"""What is written while heads are silenced, against Hugging Face's `generate` and naive loops."""

import numpy as np
import pytest
import torch
import transformers
from helpers.models_on_disk import save_folder
from helpers.tiny_models import tiny, tiny_gpt2, tiny_llama
from helpers.unchecked import unchecked

import inactive_heads as ih
from inactive_heads.ablation.generation import Sampling, generate, greedy

PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [3, 4, 5], [96]]
STEPS = 7
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
WINDOW = {"head_dim": 8, "sliding_window": 4}
NETWORKS = {
    "llama": tiny_llama,
    "gpt2": tiny_gpt2,
    "a sliding window": lambda: tiny(transformers.MistralConfig(**SIZES, sliding_window=4)),
    "windows and soft caps": lambda: tiny(transformers.Gemma2Config(**SIZES, **WINDOW)),
    "convolutions": lambda: tiny(
        transformers.Lfm2Config(**SIZES, layer_types=["full_attention", "conv", "full_attention"])
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, tmp_path_factory):
    return load(tmp_path_factory.mktemp("model"), NETWORKS[request.param]())


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load(tmp_path_factory.mktemp("llama"), tiny_llama())


def load(folder, network, **options):
    """A model that nothing ends the texts of."""
    model = ih.load_model(save_folder(folder, network, tokenizer=None), **options)
    if hasattr(model.engine, "network"):
        model.engine.network.generation_config.eos_token_id = None
    return model


def threshold(model, percent=30):
    scores = ih.score_heads(model, PROMPTS, scores=["AHON (LN)"])
    return float(ih.choose_thresholds(scores, [percent])[0, 0])


def naive(model, prompts, ablation, steps=STEPS):
    """A token at a time by `ablate` on all there is so far; and the masks of every step."""
    texts, masks = [list(prompt) for prompt in prompts], []
    for _ in range(steps):
        run = ih.ablate(model, texts, ablation)
        masks.append(run.zeroed.values)
        for text, token in zip(texts, run.logits.argmax(dim=-1).tolist(), strict=True):
            text.append(token)
    written = [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
    return written, np.mean(masks, axis=(0, 2, 3)) * 100


@pytest.mark.parametrize(
    "ablation", [None, ih.PerInput("AHON (LN)", -1.0)], ids=["none", "no head"]
)
@pytest.mark.parametrize("decide", ["every-step", "prompt"])
def test_with_no_head_silenced_it_is_what_hugging_face_generates(model, decide, ablation):
    options = {"do_sample": False, "max_new_tokens": STEPS, "pad_token_id": 0}
    expected = [
        model.engine.network.generate(torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    found = generate(model, PROMPTS, ablation, decide=decide, max_new_tokens=STEPS)
    assert found.tokens == expected
    assert not found.percent_zeroed.any()


def test_every_step_decides_anew_on_the_whole_text(model):
    ablation = ih.PerInput("AHON (LN)", threshold(model))
    found = generate(model, PROMPTS, ablation, max_new_tokens=STEPS)
    written, zeroed = naive(model, PROMPTS, ablation)
    assert found.tokens == written
    np.testing.assert_allclose(found.percent_zeroed, zeroed)
    assert found.tokens != generate(model, PROMPTS, max_new_tokens=STEPS).tokens


def test_decided_on_the_prompt_the_same_heads_stay_silent(model):
    ablation = ih.PerInput("AHON (LN)", threshold(model))
    found = generate(model, PROMPTS, ablation, decide="prompt", max_new_tokens=STEPS)
    masks = ih.ablate(model, PROMPTS, ablation).zeroed
    for index, prompt in enumerate(PROMPTS):
        (written,), (zeroed,) = naive(model, [prompt], ih.Fixed(masks[index]))
        assert found.tokens[index] == written
        assert found.percent_zeroed[index] == pytest.approx(zeroed)


def test_the_two_ways_differ(llama):
    ablation = ih.PerInput("AHON (LN)", threshold(llama, 50))
    ways = [
        generate(llama, PROMPTS, ablation, decide=decide, max_new_tokens=20).percent_zeroed
        for decide in ("every-step", "prompt")
    ]
    assert not np.allclose(*ways)


@pytest.mark.parametrize("ablation", [ih.Random(0.4, seed=3), ih.Fixed([(0, 1), (1, 2), (2, 0)])])
def test_heads_that_do_not_depend_on_the_text_are_silenced_with_a_cache(llama, ablation):
    written, zeroed = naive(llama, PROMPTS, ablation)
    found = generate(llama, PROMPTS, ablation, max_new_tokens=STEPS)
    assert found.tokens == written
    np.testing.assert_allclose(found.percent_zeroed, zeroed)


@pytest.mark.parametrize(
    ("ablation", "cached"),
    [
        (None, True),
        (ih.Fixed([(1, 2)]), True),
        (ih.Random(0.4), True),
        (ih.PerInput("AHON (LN)", 0.9), False),
    ],
)
def test_every_token_is_run_once_if_no_heads_are_chosen_anew(llama, ablation, cached):
    prompt, lengths = [5, 6, 7, 8], []
    generate(llama, [prompt], max_new_tokens=2, progress=False)  # tries the cache the first time
    embedding = llama.engine.network.get_input_embeddings()
    handle = embedding.register_forward_hook(
        lambda module, given, output: lengths.append(given[0].shape[-1])
    )
    try:
        generate(llama, [prompt], ablation, max_new_tokens=4, progress=False)
    finally:
        handle.remove()
    if cached:  # an ablation has been asked about the prompt before
        assert lengths[-4:] == [4, 1, 1, 1]
        assert len(lengths) == (4 if ablation is None else 5)
    else:
        assert lengths == [4, 5, 6, 7]


def test_the_lens_engine_writes_the_same(tmp_path):
    lens, flash = (load(tmp_path, tiny_llama(), engine=engine) for engine in ("lens", "flash"))
    ablation = ih.PerInput("AHON (LN)", threshold(flash))
    one, other = (generate(one, PROMPTS, ablation, max_new_tokens=3) for one in (lens, flash))
    assert one.tokens == other.tokens
    with pytest.raises(ih.UserError, match="\"prompt\" keeps a cache, which engine='lens' cannot"):
        generate(lens, PROMPTS, ablation, decide="prompt")


@pytest.mark.parametrize("decide", ["every-step", "prompt"])
@pytest.mark.parametrize("choose", [greedy, Sampling(0.8, seed=5)])
def test_what_is_written_does_not_depend_on_batches_nor_on_when_others_stop(llama, decide, choose):
    ablation = ih.PerInput("AHON (LN)", threshold(llama))

    def stop(own):
        return own[-1] % 5 == 0

    options = {"decide": decide, "stop": stop, "choose": choose, "max_new_tokens": 9}
    alone, together = (
        generate(llama, PROMPTS, ablation, batch_size=size, **options) for size in (1, 4)
    )
    assert alone.tokens == together.tokens
    np.testing.assert_allclose(alone.percent_zeroed, together.percent_zeroed)
    assert len({len(own) for own in alone.tokens}) > 1
    assert all(stop(own) or len(own) == 9 for own in alone.tokens)
    assert not any(stop(own[:-1]) for own in alone.tokens if len(own) > 1)


def test_the_models_end_of_text_ends_it(llama, monkeypatch):
    (long,) = generate(llama, [[5, 6]], max_new_tokens=12).tokens
    monkeypatch.setattr(llama.engine.network.generation_config, "eos_token_id", [long[2], 90])
    (short,) = generate(llama, [[5, 6]], max_new_tokens=12).tokens
    assert short == long[: long.index(long[2]) + 1]


def test_a_batch_that_does_not_fit_is_halved(llama, monkeypatch):
    run = type(llama.engine).run

    def limited(self, batch, *args):
        if len(batch.rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, batch, *args)

    ablation = ih.PerInput("AHON (LN)", threshold(llama))
    expected = generate(llama, PROMPTS, ablation, max_new_tokens=4)
    monkeypatch.setattr(type(llama.engine), "run", limited)
    with pytest.warns(ih.Notice, match="4 inputs of 6 tokens do not fit .* going on with 2"):
        found = generate(llama, PROMPTS, ablation, max_new_tokens=4)
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(found.percent_zeroed, expected.percent_zeroed)


def test_samples_come_as_often_as_they_are_likely():
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]]).repeat(4000, 1)
    rows = range(4000)

    def shares(**options):
        drawn = Sampling(**options)(logits, rows, 0)
        return np.bincount(drawn, minlength=4) / 4000

    expected = torch.softmax(logits[0] / 0.7, dim=-1).numpy()
    np.testing.assert_allclose(shares(temperature=0.7), expected, atol=0.03)
    assert (shares(top_k=2)[[1, 3]] == 0).all()
    assert (shares(top_p=0.5)[1:] == 0).all()
    assert (shares(seed=1) != shares(seed=2)).any()


def test_what_filters_nothing_draws_alike():
    logits, rows = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)), range(50)
    expected = Sampling(seed=4)(logits, rows, 0)
    for options in ({"top_p": 1.0}, {"top_p": 1}, {"top_k": 0}, {"top_k": 20}):
        assert Sampling(seed=4, **options)(logits, rows, 0) == expected
    assert Sampling(seed=4, top_k=1)(logits, rows, 0) == greedy(logits, rows, 0)
    assert Sampling(seed=4)(logits, rows, 1) != expected


def test_a_context_is_written_full(llama):
    full = generate(llama, [[5] * 60, [6]], max_new_tokens=4)
    assert [len(own) for own in full.tokens] == [4, 4]
    assert [len(own) for own in generate(llama, [[5] * 63], max_new_tokens=1).tokens] == [1]


def test_what_cannot_be_written_is_refused(llama):
    with pytest.raises(ih.UserError, match="prompt 1 has 60 tokens and up to 5 .* context is 64"):
        generate(llama, [[5], [5] * 60], max_new_tokens=5)
    wrong = "decide must be every-step or prompt, not 'once'"
    with unchecked(), pytest.raises(ih.UserError, match=wrong):
        generate(llama, PROMPTS, decide="once")
    with pytest.raises(ih.UserError, match="max_new_tokens must be at least 1, not 0"):
        generate(llama, PROMPTS, max_new_tokens=0)
    with pytest.raises(ih.UserError, match="cannot sample so: .*temperature"):
        Sampling(temperature=-1.0)
