"""Whether a continuation is what greedy decoding gives: against the harness's own model."""

import numpy as np
import pytest
import torch
from helpers.models_on_disk import WORDS, save_folder, word_tokenizer
from helpers.tiny_models import tiny_llama

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from inactive_heads.evaluation.lm_eval_model import HarnessModel

VOCABULARY = [*WORDS, *(f"w{i}" for i in range(97 - len(WORDS)))]
CONTEXTS = ["the cat sat on", "a dog", "w3 w5 w8 the mat and w13", "far", "the cat sat on a mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = word_tokenizer(words=VOCABULARY)
    return save_folder(tmp_path_factory.mktemp("model"), tiny_llama(), tokenizer)


def continuations(context):
    """(text, whether it is greedy): what the network itself goes on with, and near misses of it."""
    network, tokens = tiny_llama(), [VOCABULARY.index(word) for word in context.split()]
    start = len(tokens)
    for _ in range(3):
        with torch.no_grad():
            tokens.append(int(network(torch.tensor([tokens])).logits[0, -1].argmax()))
    first, second, third = (VOCABULARY[token] for token in tokens[start:])
    other = next(word for word in ("mat", "dog") if word not in (first, second, third))
    return [
        (f" {first}", True),
        (f" {first} {second}", True),
        (f" {first} {second} {third}", True),
        (f" {other}", False),
        (f" {first} {other}", False),
        (f" {first} {second} {other}", False),
        (f" {other} {second} {third}", False),
    ]


def test_a_continuation_is_greedy_where_every_token_is_the_most_probable(folder):
    asked, expected = [], []
    for context in CONTEXTS:
        for text, greedy in continuations(context):
            asked.append((context, text))
            expected.append(greedy)
    assert 0 < sum(expected) < len(expected)
    requests = [
        Instance("loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(asked)
    ]
    hf = HFLM(pretrained=str(folder), batch_size=4, device="cpu", dtype="float32")
    theirs, ours = hf.loglikelihood(requests), HarnessModel(folder).loglikelihood(requests)
    assert [greedy for _, greedy in theirs] == expected
    assert [greedy for _, greedy in ours] == expected
    found, known = (np.array([value for value, _ in one]) for one in (ours, theirs))
    np.testing.assert_allclose(found, known, atol=1e-4)
