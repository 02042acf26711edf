"""The sizes of a model whose layers are alike, and of one whose layers differ."""

import dataclasses

import pytest

import inactive_heads as ih
from inactive_heads.core.model_shape import HeadSizes, ModelShape

OTHERS = {"n_layers": 8, "d_model": 32, "n_ctx": 64, "d_vocab": 97}
ALIKE = ModelShape((3, 7), 8, 4, 2, 8, 32, n_ctx=64, d_vocab=97)
DIFFERING = ModelShape.of_layers(
    {7: HeadSizes(6, 3, 8), 3: HeadSizes(4, 1, 16), 5: HeadSizes(1, 1, 8, 3)}, **OTHERS
)


def test_layers_are_alike_unless_told_otherwise():
    assert ALIKE.heads == (HeadSizes(4, 2, 8),) * 2
    assert ALIKE.of(7) == HeadSizes(4, 2, 8)
    assert ALIKE.total_heads == 8
    assert ALIKE.exists.all()
    assert ALIKE.exists.shape == (2, 4)
    assert ALIKE.differing == {}
    told = ModelShape.of_layers(dict.fromkeys((7, 3), HeadSizes(4, 2, 8)), **OTHERS)
    assert told == ALIKE


def test_layers_that_differ():
    assert DIFFERING.layers == (3, 5, 7)
    assert (DIFFERING.n_heads, DIFFERING.n_key_value_heads, DIFFERING.d_head) == (6, 3, 16)
    assert DIFFERING.of(5) == HeadSizes(1, 1, 8, 3)
    assert DIFFERING.total_heads == 11
    assert DIFFERING.exists.sum(axis=1).tolist() == [4, 1, 6]
    assert DIFFERING.exists[1].tolist() == [True, *[False] * 5]
    assert DIFFERING.differing == {
        "n_heads": [4, 1, 6],
        "n_key_value_heads": [1, 1, 3],
        "d_head": [16, 8, 8],
        "key_value_layer": [3, 3, 7],
    }


def test_memory_is_that_of_the_layer_with_the_most():
    # 4 heads of width 16, not 6 of width 16.
    assert DIFFERING.bytes_per_token(4) == 4 * 16 * 32 + (6 * 4 + 6 * 4) * 64
    assert ALIKE.bytes_per_token(2) == 2 * 16 * 32 + (6 * 2 + 6 * 4) * 32


@pytest.mark.parametrize(
    "changes",
    [
        {"n_heads": 4},
        {"n_key_value_heads": 6},
        {"d_head": 8},
        {"layers": (3, 7)},
        {"heads": DIFFERING.heads[:2]},
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(changes):
    with pytest.raises(ih.UserError, match="make it with ModelShape.of_layers"):
        dataclasses.replace(DIFFERING, **changes)
