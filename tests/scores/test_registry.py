import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from helpers.closeness import assert_close
from helpers.unchecked import unchecked
from hypothesis import given
from hypothesis import strategies as st

import inactive_heads as ih
from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.output_path import OutputPath, output_root
from inactive_heads.scores.fingerprint import fingerprint
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.registry import REGISTRY, get_score, layer_normalized


def heads_by_hand():
    """One input of 2 tokens, 2 heads of one key/value group, d_head 2, d_model 2."""
    pattern = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.25, 0.75]]]])
    values = torch.tensor([[[[3.0, 4.0]], [[0.0, 1.0]]]])  # norms 5 and 1
    outputs = torch.tensor([[[[3.0, 4.0], [3.0, 4.0]], [[1.5, 2.5], [0.75, 1.75]]]])
    weights = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    batch = TokenBatch.of([[7, 8]])
    return HeadActivations(
        layer=0,
        batch=batch,
        values=values,
        outputs=outputs,
        attention=PatternStatistics(batch, pattern),
        path=OutputPath(weights),
        stream=lambda: torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]),
    )


def norm(*x):
    return math.sqrt(sum(a * a for a in x))


def test_every_definition_by_hand():
    entropy = [math.log(2) / 2, -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / 2]
    last = [norm(1.5, 2.5), norm(0.75, 1.75)]
    ahon = [(5 + last[0]) / 2, (5 + last[1]) / 2]
    # Head 0 keeps twice the first coordinate, head 1 swaps the two.
    ahrn = [(6 + 3) / 2, ahon[1]]
    layer = sum(ahon) / 2
    by_hand = {
        "AWFT": [0.75, 0.625],
        "AWFT (LN)": [0.75 / 0.6875, 0.625 / 0.6875],
        "AEQD": entropy,
        "AEQD (LN)": [e / (sum(entropy) / 2) for e in entropy],
        "FTVVN": [5, 5],
        "FTVVN (LN)": [1, 1],
        "AVVN": [3, 3],
        "AVVN (LN)": [1, 1],
        "AHON": ahon,
        "AHON (LN)": [a / layer for a in ahon],
        "LTHON": last,
        "LTHON (LN)": [a / layer for a in last],  # by the layer's AHON, not its LTHON
        "LTHON (HN)": [a / b for a, b in zip(last, ahon, strict=True)],
        "AHRN": ahrn,
        "AHRN (LN)": [a / (sum(ahrn) / 2) for a in ahrn],
    }
    assert list(by_hand) == list(ih.PAPER_SCORES)
    heads = heads_by_hand()
    for name, expected in by_hand.items():
        torch.testing.assert_close(get_score(name)(heads), torch.tensor([expected]).float())
    assert {name for name in by_hand if get_score(name).inactive == "above"} == {
        "AWFT",
        "AWFT (LN)",
    }


def test_result_is_z_through_its_own_slice_of_w_o():
    heads = heads_by_hand()
    torch.testing.assert_close(heads.result[0, 0], torch.tensor([[6.0, 0.0], [4.0, 3.0]]))
    torch.testing.assert_close(heads.result.norm(dim=-1), heads.result_norm)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.sampled_from([1.0, 1e-4, 1e4]))
def test_result_norm_without_the_result(n_heads, d_head, d_model, scale):
    generator = torch.Generator().manual_seed(n_heads * 100 + d_head * 10 + d_model)
    weights = scale * torch.randn(n_heads, d_head, d_model, generator=generator)
    z = torch.randn(1, 3, n_heads, d_head, generator=generator)
    expected = torch.einsum("bphd,hdm->bphm", z.double(), weights.double()).norm(dim=-1)
    found = torch.einsum("bphd,hdr->bphr", z, output_root(weights)).norm(dim=-1)
    assert_close(found, expected, rtol=1e-5)


@pytest.fixture
def registry():
    """The registry, put back as it was."""
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def test_a_users_score_works_wherever_a_name_does(registry):
    @ih.score_function("MY", inactive="above")
    def my_score(heads):
        """Twice AHON."""
        return 2 * heads.mean_over_tokens(heads.z.norm(dim=-1))

    heads = heads_by_hand()
    torch.testing.assert_close(get_score("MY")(heads), 2 * get_score("AHON")(heads))
    torch.testing.assert_close(get_score("MY (LN)")(heads), get_score("AHON (LN)")(heads))
    assert get_score("MY (LN)").inactive == "above"
    assert get_score("MY").definition == "Twice AHON."
    with pytest.raises(ih.UserError, match="'MY' is registered already"):
        ih.score_function("MY", inactive="below")(my_score)
    assert ih.layer_normalized(my_score).name == "my_score (LN)"


def test_a_plain_callable_and_one_with_parameters():
    def quiet(heads):
        return heads.at_first_token(heads.z_norm)

    class Power:
        inactive = "above"

        def __init__(self, exponent):
            self.exponent = exponent

        def __call__(self, heads):
            return heads.mean_over_tokens(heads.z_norm**self.exponent)

    quiet_score, power, cube = get_scores([quiet, Power(2), Power(3)])
    assert (quiet_score.name, quiet_score.inactive) == ("quiet", "below")
    assert (power.name, power.inactive) == ("Power(exponent=2)", "above")
    assert layer_normalized(cube).name == "Power(exponent=3) (LN)"
    assert fingerprint(power) != fingerprint(cube)
    heads = heads_by_hand()
    torch.testing.assert_close(quiet_score(heads), torch.tensor([[5.0, 5.0]]))
    for score, exponent in ((power, 2), (cube, 3)):  # two of one class do not take each other's
        expected = (heads.z.norm(dim=-1) ** exponent).mean(dim=1)
        torch.testing.assert_close(score(heads), expected)
        torch.testing.assert_close(score(heads), expected)
        normalized = layer_normalized(score)(heads)
        torch.testing.assert_close(normalized, expected / expected.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fingerprint_sees_every_number_of_an_array(dtype):
    held = torch.zeros(3000, dtype=dtype, requires_grad=True)
    other = torch.zeros(3000, dtype=dtype)
    assert fingerprint(held) == fingerprint(other)
    other[1500] = 1  # where repr leaves out
    assert fingerprint(held) != fingerprint(other)
    one, two = (tensor.detach().float().numpy() for tensor in (held, other))
    assert fingerprint(one) != fingerprint(two)
    # Objects are known by what they say, not by where they lie.
    assert fingerprint(np.array([{"a"}, None])) == fingerprint(np.array([{"a"}, None]))


def twice(heads):
    return 2 * heads.mean_over_tokens(heads.z_norm[:, :, :])


def twice_documented(heads):
    """Twice the head output norm."""
    # A comment, and a docstring that moves every constant by one.
    return 2 * heads.mean_over_tokens(heads.z_norm[:, :, :])


def three_times(heads):
    return 3 * heads.mean_over_tokens(heads.z_norm[:, :, :])


def twice_at_last(heads):
    return 2 * heads.at_last_token(heads.z_norm[:, :, :])


def test_a_fingerprint_leaves_out_docstrings_and_comments():
    assert fingerprint(twice) == fingerprint(twice_documented)

    def nested(heads):
        def scaled(values):
            return 2 * values

        return heads.mean_over_tokens(scaled(heads.z_norm))

    def nested_documented(heads):
        def scaled(values):
            """The inner function has a docstring too."""
            return 2 * values

        return heads.mean_over_tokens(scaled(heads.z_norm))

    assert fingerprint(nested) == fingerprint(nested_documented)


class Weighted:
    """A score with attributes, in the order in which they were set."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __call__(self, heads):
        return heads.at_first_token(heads.z_norm)


def test_a_fingerprint_does_not_depend_on_the_order_of_names():
    for make in (partial(partial, twice), Weighted):
        one, other = make(first=1, second=2), make(second=2, first=1)
        assert fingerprint(one) == fingerprint(other)
        assert fingerprint(one) != fingerprint(make(first=2, second=1))
    # 0 and 8 lie in one place of a small set, which then has the order in which they came.
    assert list(frozenset([0, 8])) != list(frozenset([8, 0]))
    assert fingerprint(frozenset([0, 8])) == fingerprint(frozenset([8, 0]))
    assert fingerprint(frozenset([0, 8])) != fingerprint(frozenset([0, 16]))


@pytest.mark.parametrize("changed", [three_times, twice_at_last])
def test_a_fingerprint_sees_constants_and_called_names(changed):
    assert fingerprint(twice) != fingerprint(changed)


def test_a_dataclass_and_a_partial_are_named_after_their_parameters(registry):
    @dataclass
    class TopShare:
        k: int = 1

        def __call__(self, heads):
            return heads.at_first_token(heads.z_norm) * self.k

    def scaled(heads, factor):
        return heads.at_last_token(heads.z_norm) * factor

    two, three = get_scores([TopShare(k=2), partial(scaled, factor=3)])
    assert (two.name, three.name) == ("TopShare(k=2)", "scaled(factor=3)")
    heads = heads_by_hand()
    torch.testing.assert_close(two(heads), torch.tensor([[10.0, 10.0]]))
    torch.testing.assert_close(three(heads), 3 * get_score("LTHON")(heads))
    ih.score_function("TOP4", inactive="above")(TopShare(4))
    torch.testing.assert_close(get_score("TOP4")(heads), 2 * two(heads))
    for use in (get_score, ih.score_function("CLASS", inactive="below")):
        with pytest.raises(ih.UserError, match=r"TopShare is a class; .* TopShare\(…\)"):
            use(TopShare)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda heads: heads.z_norm, r"shape \(1, 2, 2\); it must be \(batch, head\) = \(1, 2\)"),
        (lambda heads: 3.0, "returned a float"),
        (lambda heads: torch.ones(1, 2, dtype=torch.long), "torch.int64"),
        (lambda heads: torch.tensor([[1.0, math.nan]]), "nan for input 0, L0H1"),
    ],
)
def test_what_a_users_function_returns_is_checked(function, message):
    function.__name__ = "broken"
    with pytest.raises(ih.UserError, match=f"score 'broken' .*{message}"):
        get_score(function)(heads_by_hand())


def test_unknown_and_repeated_names():
    with pytest.raises(
        ih.UserError, match=r"unknown score 'AHON\(LN\)'; did you mean 'AHON \(LN\)'"
    ):
        get_score("AHON(LN)")
    with pytest.raises(ih.UserError, match="'AWFT' was asked for twice"):
        get_scores(["AWFT", "AWFT"])
    with unchecked(), pytest.raises(ih.UserError, match='"below" or "above", not \'under\''):
        ih.score_function("SIDE", inactive="under")(lambda heads: heads.z_norm)
