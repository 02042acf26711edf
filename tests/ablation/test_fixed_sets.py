"""A fixed set of heads is the same set in whatever form and order of axes it is given."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.tiny_models import tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of

MODEL = ih.as_model(bridge_of(tiny_llama(), "tiny"))  # 3 layers of 4 heads
SQUARE = ih.as_model(bridge_of(tiny_llama(num_hidden_layers=4), "tiny"))  # 4 of 4: no shape tells
SAMPLES = [[5, 6, 7], [8, 9]]
HEADS = [(0, 1), (0, 3), (2, 1)]


def mask_of(heads, n_layers):
    mask = np.zeros((n_layers, 4), dtype=bool)
    mask[tuple(np.transpose(heads))] = True
    return xr.DataArray(
        mask, dims=("layer", "head"), coords={"layer": range(n_layers), "head": range(4)}
    )


FORMS = {
    "pairs": lambda mask: HEADS,
    "pairs in another order": lambda mask: HEADS[::-1],
    "pairs twice": lambda mask: [*HEADS, HEADS[0]],
    "DataArray": lambda mask: mask,
    "DataArray (head, layer)": lambda mask: mask.transpose("head", "layer"),
    "DataArray without coordinates": lambda mask: mask.drop_vars(["layer", "head"]),
    "DataArray with the layers turned": lambda mask: mask.isel(layer=slice(None, None, -1)),
    "array": lambda mask: mask.values,
    "tensor": lambda mask: torch.tensor(mask.values),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("model", "n_layers"), [(MODEL, 3), (SQUARE, 4)], ids=["3 by 4", "square"])
def test_the_heads_silenced_are_those_of_the_set(form, model, n_layers):
    fixed = ih.Fixed(form(mask_of(HEADS, n_layers)))
    assert sorted(fixed.heads) == HEADS
    run = ih.ablate(model, SAMPLES, fixed)
    for zeroed in run.zeroed:
        assert [tuple(pair) for pair in np.argwhere(zeroed.values).tolist()] == HEADS


def test_a_label_is_of_the_heads_alone():
    labels = {ih.Fixed(form(mask_of(HEADS, 3))).label for form in list(FORMS.values())[:5]}
    assert len(labels) == 1
    assert labels != {ih.Fixed(HEADS[:2]).label}
    assert labels != {ih.Fixed([(head, layer) for layer, head in HEADS]).label}


def test_a_replacement_is_the_layers_own():
    means = ih.mean_head_outputs(MODEL, SAMPLES)
    for layer in range(3):
        silence = ih.Fixed([(layer, 2)], replacement=means).silence(layer, 4)
        assert silence.mask.tolist() == [[False, False, True, False]]
        np.testing.assert_allclose(silence.value, means.values[layer], rtol=1e-6)
        assert ih.Fixed([(layer, 2)]).silence(layer, 4).value is None
    assert not ih.Fixed([(1, 2)]).silence(0, 4).mask.any()
