"""The check of a score: what it lets pass, and what it catches, by the name of the clause."""

import functools
import re

import pytest
import torch
from helpers.closeness import assert_close

import inactive_heads as ih
from inactive_heads.core.batch import TokenBatch
from inactive_heads.scores.check.tiny_models import grouped_model, plain_model, ungrouped_model
from inactive_heads.scores.registry import RatioScore

CLAUSES = (
    *("shape", "finite", "one token", "repeatable", "grouped-query attention", "padding"),
    *("batch composition", "BOS", "dtype", "direction", "input unchanged", "model unchanged"),
    "engines",
)


def real(heads):
    return heads.batch.mask[:, :, None]


def averages_over_padding(heads):
    return heads.z_norm.mean(dim=1)


def averages_with_a_product(heads):
    return (heads.z_norm * real(heads)).sum(dim=1) / heads.batch.n_tokens[:, None]


def reads_the_first_position(heads):
    return heads.z_norm[:, 0]


def mixes_the_batch(heads):
    score = heads.mean_over_tokens(heads.z_norm)
    return score - score.mean(dim=0)


def per_key_value_head(heads):
    return heads.mean_over_tokens(heads.values.float().norm(dim=-1))


def heads_of_groups_apart(heads):
    """The right shape, but as if the query heads of a group were not neighbours."""
    norms = heads.mean_over_tokens(heads.values.float().norm(dim=-1))
    return norms.repeat(1, heads.n_heads // norms.shape[1])


def spread(heads):
    """The sample standard deviation, for which one token is too few."""
    mean = heads.mean_over_tokens(heads.z_norm)[:, None]
    squares = torch.where(real(heads), (heads.z_norm - mean) ** 2, 0).sum(dim=1)
    return (squares / (heads.batch.n_tokens[:, None] - 1)).sqrt()


def spread_by_torch(heads):
    """The same on inputs of one length, with torch's warning, which is told in words."""
    real_ones = [row[mask] for row, mask in zip(heads.z_norm, heads.batch.mask, strict=True)]
    return torch.stack([row.std(dim=0) for row in real_ones])


def writes_into_z(heads):
    heads.z.mul_(2)
    return heads.mean_over_tokens(heads.z.norm(dim=-1))


def writes_what_is_there(heads):
    heads.z[:, 0] += 0
    return heads.mean_over_tokens(heads.z_norm)


def writes_into_what_others_share(heads):
    heads.z_norm.mul_(2)
    return heads.mean_over_tokens(heads.z_norm)


def writes_into_the_mask(heads):
    score = heads.mean_over_tokens(heads.z_norm)
    heads.batch.mask.fill_(True)
    return score


def writes_into_the_stream(heads):
    return heads.mean_over_tokens(heads.z_norm / heads.residual.abs_().sum(dim=-1, keepdim=True))


def writes_into_the_weights(heads):
    heads.path.weights.mul_(2)
    return heads.mean_over_tokens(heads.z_norm)


def draws(heads):
    return torch.rand(len(heads.batch.tokens), heads.n_heads)


def looks_for_bos(heads):
    begins = (heads.batch.tokens[:, :1] == 0).float()
    return heads.mean_over_tokens(heads.z_norm) * (1 + begins)


def in_the_models_dtype(heads):
    return heads.mean_over_tokens(heads.outputs.pow(2).sum(dim=-1))


def in_float16_alone(heads):
    """What float16 rounds is less than what bfloat16 does."""
    half = heads.outputs.dtype == torch.float16
    return heads.mean_over_tokens((heads.outputs if half else heads.z).pow(2).sum(dim=-1))


def of_the_engine_alone(heads):
    known = 1 if type(heads.attention).__module__.endswith("lens_visit") else 2
    return known * heads.mean_over_tokens(heads.z_norm)


def nan_throughout(heads):
    return heads.mean_over_tokens(heads.z_norm) * torch.nan


def raises(heads):
    return heads.no_such_thing


def per_token(heads):
    return heads.z_norm


BAD = {
    averages_over_padding: ("padding", r"3 after the input, L\dH\d of input 0 is [\d.]+, not [\d.]+ as without"),
    averages_with_a_product: ("padding", "product with the mask, as NaN times 0 is NaN"),
    reads_the_first_position: ("padding", "with 3 tokens of padding before"),
    mixes_the_batch: ("batch composition", "it mixes inputs of a batch"),
    per_key_value_head: ("grouped-query attention", r"shape \(3, 2\), not \(batch, head\) = \(3, 4\)"),
    heads_of_groups_apart: ("grouped-query attention", "stand side by side"),
    spread: ("one token", "single token, it returns (nan|inf) for L0H0 of input 0"),
    spread_by_torch: ("one token", "needs one that stands for it, such as 0"),
    writes_into_z: ("input unchanged", "writes into z of layer 0"),
    writes_what_is_there: ("input unchanged", "writes into z of layer 0"),
    writes_into_what_others_share: ("input unchanged", "heads.z_norm"),
    writes_into_the_mask: ("input unchanged", "writes into the mask"),
    writes_into_the_stream: ("input unchanged", "writes into the residual stream"),
    writes_into_the_weights: ("model unchanged", "weights transformer.h.0.attn.c_proj.weight"),
    looks_for_bos: ("BOS", "an ActivationCache has none"),
    in_the_models_dtype: ("dtype", "on activations in bfloat16"),
    in_float16_alone: ("dtype", "on activations in float16"),
    of_the_engine_alone: ("engines", "by the engine lens"),
    raises: ("shape", "AttributeError: .* 'no_such_thing'"),
    per_token: ("shape", r"returns shape \(3, 7, 4\)"),
    nan_throughout: ("finite", "returns nan for L0H0 of input 0"),
}  # fmt: skip


@pytest.mark.parametrize("score", BAD, ids=lambda score: score.__name__)
def test_what_is_wrong_is_named_and_nothing_else_is(score):
    check, (clause, words) = ih.check_score(score), BAD[score]
    assert [one.clause for one in check.failed] == [clause]
    (finding,) = check.failed
    assert not check.passed
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(finding.message)
    assert f"{score.__name__}: failed in {clause}\n" in str(check)
    assert finding.message in str(check)


def test_what_cannot_be_judged_says_why():
    check = ih.check_score(draws)
    assert [one.clause for one in check.failed] == ["repeatable"]
    (padding,) = (one for one in check.findings if one.clause == "padding")
    assert (padding.outcome, padding.message) == (
        "not decided",
        "only a score that passes repeatable can be judged",
    )


def test_a_ratio_may_be_undefined_but_not_for_padding():
    def ratio(heads):
        return heads.mean_over_tokens(heads.z_norm).where(
            torch.tensor(heads.batch.unpadded), torch.nan
        )

    check = ih.check_score(RatioScore("R", ratio, "below"))
    assert [one.clause for one in check.failed] == ["padding"]
    assert re.search(r"after the input, L\dH\d of input 0 is nan, not \d", check.failed[0].message)

    def undefined_on_one_token(heads):
        several = (heads.batch.n_tokens > 1)[:, None]
        return heads.mean_over_tokens(heads.z_norm).where(several, torch.nan)

    check = ih.check_score(RatioScore("R", undefined_on_one_token, "below"))
    assert check.passed, check
    (one_token,) = (one for one in check.findings if one.clause == "one token")
    assert one_token.message.startswith("NaN on a single token")


@pytest.mark.parametrize("name", ih.PAPER_SCORES)
def test_the_papers_scores_pass(name):
    check = ih.check_score(name)
    assert check.passed, check
    assert tuple(one.clause for one in check.findings) == CLAUSES
    undecided = [one.clause for one in check.findings if one.outcome != "passed"]
    # A ratio of two norms of one head does not change with the head's size.
    assert undecided == (["direction"] if name == "LTHON (HN)" else [])
    assert str(check).startswith(f"{name}: passed\n")


@pytest.mark.parametrize("name", ["AHON", "AHON (LN)", "AWFT", "AEQD", "AHRN", "FTVVN"])
def test_the_wrong_side_is_caught(name):
    score = ih.get_score(name)
    other = "below" if score.inactive == "above" else "above"
    check = ih.check_score(ih.Score("turned", score.function, other))
    (finding,) = check.failed
    assert finding.clause == "direction"
    assert f'declared inactive="{other}"' in finding.message


def test_forms_of_a_score():
    class Power:
        inactive = "below"

        def __init__(self, exponent):
            self.exponent = exponent

        def __call__(self, heads):
            return heads.mean_over_tokens(heads.z_norm**self.exponent)

    def pattern_peak(heads):
        """Needs the pattern: the largest weight, of the mean over queries, that a key gets."""
        weights = torch.where(heads.batch.mask[:, None, :, None], heads.pattern, 0)
        return weights.sum(dim=2).amax(dim=-1) / heads.batch.n_tokens[:, None]

    pattern_peak.inactive = "above"
    for score, name in (
        (Power(2), "Power(exponent=2)"),
        (functools.partial(lambda heads, k: k * heads.at_last_token(heads.z_norm), k=3), None),
        (pattern_peak, "pattern_peak"),
        (ih.layer_normalized(pattern_peak), "pattern_peak (LN)"),
    ):
        check = ih.check_score(score)
        assert check.passed, check
        assert check.score == (name or "<lambda>(k=3)")
    with pytest.raises(ih.UserError, match="is a class"):
        ih.check_score(Power)


def test_nothing_of_the_surroundings_changes():
    before = torch.get_rng_state(), torch.get_num_threads()
    ih.check_score("AHON")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_a_score_that_spoils_its_copies_does_not_spoil_the_next_check():
    for score in (writes_into_z, writes_into_the_weights, writes_into_what_others_share):
        ih.check_score(score)
    assert ih.check_score("AHRN").passed


def test_the_tiny_models_have_heads_that_differ_and_groups_that_are_real():
    """Else the clauses could not tell right from wrong."""
    batch = TokenBatch.of([[3, 1, 4, 1, 5, 9, 2, 6]])
    for engine in (plain_model(), grouped_model()):
        norms = ih.score_heads(ih.as_model(_model(engine)), [[3, 1, 4, 1, 5]], scores=["AHON"])
        assert float(norms.std("head").min()) > 0.03 * float(norms.mean())
    shapes = [engine().shape.n_key_value_heads for engine in (grouped_model, ungrouped_model)]
    assert shapes == [2, 4]
    assert_close(grouped_model().run(batch), ungrouped_model().run(batch), rtol=1e-5)


def _model(engine):
    return ih.Model(engine, None, {"model": engine.name}, lambda text: [])
