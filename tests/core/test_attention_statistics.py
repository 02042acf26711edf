"""Statistics of a pattern in half precision, and of padded inputs, against float64."""

import numpy as np
import pytest
import torch

from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch

SAMPLES = [[1] * 3, [1] * 7, [1]]


def weights_of(batch, dtype):
    """Causal weights that are 0 at padding, each row's sum 1 before rounding."""
    generator = torch.Generator().manual_seed(0)
    n = batch.tokens.shape[1]
    logits = 3 * torch.randn(len(batch.tokens), 2, n, n, generator=generator, dtype=torch.float64)
    seen = torch.ones(n, n).tril().bool() & batch.mask[:, None, None, :]
    pattern = logits.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0)
    return pattern.to(dtype)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_statistics_are_those_of_the_weights_in_float64(side, dtype):
    batch = TokenBatch.of(SAMPLES, side=side)
    weights = weights_of(batch, dtype)
    found = PatternStatistics(batch, weights)
    first_weight, entropy = found.first_token_weight(), found.entropy()
    for tensor in (first_weight, entropy, found.pattern(), found.pattern_of(1)):
        assert tensor.dtype == torch.float32
    exact = weights.double().numpy()
    for row, sample in enumerate(SAMPLES):
        first, last = int(batch.first[row]), int(batch.last[row])
        assert last - first + 1 == len(sample)
        for query in range(first, last + 1):
            for head in range(2):
                seen = exact[row, head, query]
                kept = seen[seen > 0]
                expected = -(kept * np.log(kept)).sum()
                assert float(entropy[row, query, head]) == pytest.approx(expected, rel=1e-5)
                assert float(first_weight[row, query, head]) == seen[first]
    np.testing.assert_array_equal(found.pattern(), exact)
    np.testing.assert_array_equal(found.pattern_of(1), exact[:, 1])
