"""The further scores against their definitions in plain float64, one head and token at a time."""

import copy
import re

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.closeness import assert_close
from helpers.tiny_models import SAMPLES

import inactive_heads as ih
from inactive_heads.engines.flash import FlashEngine
from inactive_heads.engines.lens import LensEngine, bridge_of
from inactive_heads.scores import BUILT_IN

NAMES = ("MSS", "CONF", "MAD", "VWA", "DZM", "FLUC", "CWH", "RRN")
ENGINES = {
    "flash": lambda network: FlashEngine(network, "tiny"),
    "lens": lambda network: LensEngine(bridge_of(network, "tiny")),
}


def norm(x):
    return np.sqrt((x**2).sum())


def cosine(x, y):
    return (x @ y) / (norm(x) * norm(y))


def by_definition(layer, stream):
    """name → one number per head, of one layer of one input; ``stream`` is (token, d_model)."""
    n_heads, n, _ = layer.A.shape
    result = np.einsum("nhd,hdm->nhm", layer.z, layer.W_O)
    output = result.sum(axis=1)
    found = {name: np.zeros(n_heads) for name in NAMES}
    for h in range(n_heads):
        A, mean = layer.A[h], layer.z[:, h].mean(axis=0)
        found["MSS"][h] = max(A[:, k].mean() for k in range(n))
        for i in range(n):
            found["CONF"][h] += max([A[i, k] for k in range(1, n)], default=0) / n
            found["MAD"][h] += sum(A[i, k] * (i - k) for k in range(n)) / n
            found["VWA"][h] += (
                sum(norm(A[i, k] * layer.v[k, h] @ layer.W_O[h]) for k in range(n)) / n
            )
            found["DZM"][h] += norm(layer.z[i, h] - mean) / n
            found["FLUC"][h] += norm((layer.z[i, h] - mean) @ layer.W_O[h]) ** 2 / n
            found["CWH"][h] += (1 - cosine(output[i], output[i] - result[i, h])) / n
            found["RRN"][h] += norm(result[i, h]) / norm(stream[i]) / n
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_every_definition(network, engine):
    subject = ih.Model(
        ENGINES[engine](copy.deepcopy(network)), None, {"model": "tiny"}, lambda text: []
    )
    scores = ih.score_heads(subject, SAMPLES, scores=ih.GALLERY_SCORES)
    for row, sample in enumerate(SAMPLES):
        _, layers = reference.run(network, sample)
        with torch.no_grad():
            streams = network(torch.tensor([sample]), output_hidden_states=True).hidden_states
        for index, layer in enumerate(layers):
            found = by_definition(layer, streams[index][0].double().numpy())
            for name, expected in found.items():
                own = scores.sel(score=name).values[row, index]
                assert_close(own, expected, rtol=2e-4, err_msg=name)
                if expected.mean() > 1e-4:
                    normalized = scores.sel(score=f"{name} (LN)").values[row, index]
                    assert_close(normalized, expected / expected.mean(), rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_score_keeps_the_contract(name):
    check = ih.check_score(name)
    assert check.passed, check
    assert all(one.outcome == "passed" for one in check.findings), check


def test_they_stand_apart_from_the_papers():
    assert tuple(form for name in NAMES for form in (name, f"{name} (LN)")) == ih.GALLERY_SCORES
    assert len(ih.PAPER_SCORES) == 15
    assert not set(ih.PAPER_SCORES) & set(ih.GALLERY_SCORES)
    for name in NAMES:
        score = ih.get_score(name)
        assert re.search(r"arXiv \d{4}\.\d{5}", score.function.__doc__), f"{name} names no source"
        assert score.definition
        assert BUILT_IN[score.name] is score  # worker processes import the package alone


def heads_of(z, weights):
    """One layer of one input, seen by scores of outputs alone: (token, head, d_head)."""
    from inactive_heads.core.attention_statistics import PatternStatistics
    from inactive_heads.core.output_path import OutputPath

    n, n_heads, _ = z.shape
    batch = ih.TokenBatch.of([list(range(n))])
    pattern = torch.eye(n).repeat(1, n_heads, 1, 1)
    return ih.HeadActivations(
        layer=0,
        batch=batch,
        values=z[None],
        outputs=z[None],
        attention=PatternStatistics(batch, pattern),
        path=OutputPath(weights),
        stream=lambda: torch.ones(1, n, weights.shape[-1]),
    )


def test_the_change_without_a_head_is_exact_where_it_is_small_and_defined_where_it_is_not():
    weights = torch.eye(2).repeat(3, 1, 1)
    # Head 0 puts out along the first axis, head 1 a millionth of it across, head 2 nothing.
    z = torch.tensor([[[1.0, 0.0], [0.0, 1e-6], [0.0, 0.0]]])
    found = ih.get_score("CWH")(heads_of(z, weights))[0]
    angle = 1e-6  # between the output with head 1 and without it
    assert found[1].item() == pytest.approx(angle**2 / 2, rel=1e-3)
    assert found[2].item() == 0
    assert found[0].item() == pytest.approx(1 - angle, rel=1e-5)  # without it, across
    # One head that is all there is; two heads that cancel; all silent.
    alone = ih.get_score("CWH")(heads_of(z[:, :1], weights[:1]))
    cancel = ih.get_score("CWH")(heads_of(torch.tensor([[[1.0, 2], [-1, -2]]]), weights[:2]))
    turned = ih.get_score("CWH")(heads_of(torch.tensor([[[3.0, 0], [-1, 0]]]), weights[:2]))
    silent = ih.get_score("CWH")(heads_of(torch.zeros(1, 2, 2), weights[:2]))
    for one, expected in ((alone, [1]), (cancel, [1, 1]), (turned, [2, 0]), (silent, [0, 0])):
        torch.testing.assert_close(one, torch.tensor([expected]).float())
