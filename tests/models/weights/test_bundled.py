"""The bundled real model against Hugging Face's own attention, and what it can do."""

import numpy as np
import pytest
import transformers
from helpers import reference
from helpers.closeness import assert_close

import inactive_heads as ih
from inactive_heads.models.weights.bundled import demo_folder
from inactive_heads.names import PAPER_SCORES

LENGTHS = (12, 20, 33, 57, 90, 128, 200, 333, 600, 900)


@pytest.fixture(scope="module")
def samples(demo_model):
    """One text after another, beginning with a different one each time."""
    texts = ih.load_texts(n=len(LENGTHS) + 4)
    several = ["\n\n".join(texts[i : i + 5]) for i in range(len(LENGTHS))]
    return [demo_model.encode(text)[:n] for text, n in zip(several, LENGTHS, strict=True)]


@pytest.fixture(scope="module")
def scores(demo_model, samples):
    return ih.score_heads(demo_model, samples)


def test_all_scores_equal_hugging_faces_eager_attention(scores, samples):
    network = transformers.AutoModelForCausalLM.from_pretrained(demo_folder(), dtype="float32")
    assert tuple(map(len, samples)) == LENGTHS
    reference.assert_scores(scores, network, samples)


def test_the_default_engine_agrees(scores, samples):
    found = ih.score_heads(ih.load_model(dtype="float32"), samples)
    assert_close(found, scores, rtol=1e-4, axis=(1, 3))


def test_bfloat16_costs_no_more_than_the_models_own_rounding(scores, samples):
    """Means over inputs: the median head within 0.3%; the furthest about as far as eager's."""
    model = ih.load_model(dtype="bfloat16")
    found = ih.score_heads(model, samples)
    error = np.abs(found.mean("sample") / scores.mean("sample") - 1).values
    assert np.median(error.reshape(len(PAPER_SCORES), -1), axis=1).max() < 0.003
    furthest = []
    for row in range(6):
        _, layers = reference.run(model.engine.network, samples[row], dtype=model.engine.dtype)
        by_layer = [reference.scores(layer) for layer in layers]
        eager = np.array([[one[name] for one in by_layer] for name in PAPER_SCORES])
        exact = scores[:, row].values
        # Heads of next to no entropy are rounded away altogether by eager attention.
        furthest.append(
            [
                np.quantile(np.abs(one / exact - 1).reshape(len(PAPER_SCORES), -1), 0.99, axis=1)
                for one in (found[:, row].values, eager)
            ]
        )
    # A single input's furthest head is a matter of luck, and of the processor: means over six.
    ours, theirs = np.mean(furthest, axis=0)
    # Entropies come from attention in bfloat16 throughout, eager's softmax is float32.
    allowed = np.where(np.char.startswith(PAPER_SCORES, "AEQD"), 2, 1.25)
    assert (ours < np.maximum(0.02, allowed * theirs)).all()


def test_a_text_scores_the_same_alone_and_in_any_batch(demo_model, scores, samples):
    few = [1, 4, 6]
    alone = ih.score_heads(demo_model, [samples[row] for row in few], batch_size=1)
    together = ih.score_heads(demo_model, [samples[row] for row in few], batch_size=3)
    assert_close(together, alone, rtol=1e-5, axis=(1, 3))
    assert_close(scores[:, few], alone, rtol=1e-5, axis=(1, 3))


def test_cloze_on_the_quiz_is_far_above_chance(demo_model):
    summary = ih.evaluate(demo_model, ih.load_task("quiz", limit=60)).summary()
    assert summary["ci_low"] > 50


def test_letters_on_mmlu_are_answered(demo_model, mmlu_folder):
    task = ih.load_task("mmlu", data=mmlu_folder, limit=6, shots=2)
    items = ih.evaluate(demo_model, task).items
    network = transformers.AutoModelForCausalLM.from_pretrained(demo_folder(), dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo_folder())
    letters = [tokenizer.encode(f" {letter}")[0] for letter in "ABCD"]
    for item, row in zip(task.items, items.itertuples(), strict=True):
        inputs = tokenizer(item.context, return_tensors="pt")
        logs = network(inputs.input_ids).logits[0, -1].log_softmax(-1)[letters]
        assert_close(row.choice_logprobs, logs, rtol=1e-4)
        assert row.correct == (int(logs.argmax()) == item.answer)


def test_zeroing_by_score_costs_less_than_at_random(demo_model, samples):
    task = ih.TextTask("text-loss", samples[:6])
    curves = ih.sweep(demo_model, task, scores=["AHON (LN)", "Random"], percents=[10])
    loss = curves.set_index(["score", "percent"]).loss
    plain = loss["AHON (LN)", 0]
    assert loss["AHON (LN)", 10] - plain < 0.5 * (loss["Random", 10] - plain)
    zeroed = curves[curves.percent == 10].percent_zeroed
    assert zeroed.between(6, 14).all()
