"""Means that would put NaN in the place of a head are refused, and name it."""

from dataclasses import replace

import pytest
import torch
from helpers.tiny_models import SAMPLES, tiny_llama

import inactive_heads as ih
from inactive_heads.engines.lens import bridge_of
from inactive_heads.models.model import Model

INNER = ih.as_model(bridge_of(tiny_llama(), "tiny")).engine


class Spoiled:
    """An engine whose logits are finite, and one head's outputs are not."""

    name, shape, device, dtype = INNER.name, INNER.shape, INNER.device, INNER.dtype

    def __init__(self, layer, head, value):
        self.place, self.value = (layer, head), value

    def bytes_per_token(self, longest):
        return INNER.bytes_per_token(longest)

    def run(self, batch, visitor=None, keep=None):
        def spoiled(heads):
            outputs = heads.outputs.clone()
            if heads.layer == self.place[0]:
                outputs[-1, 0, self.place[1], 3] = self.value
            return visitor(replace(heads, outputs=outputs))

        return INNER.run(batch, visitor and spoiled, keep)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("layer", "head"), [(0, 3), (2, 1)])
def test_the_head_whose_outputs_are_not_finite_is_named(layer, head, value):
    model = Model(Spoiled(layer, head, value), None, {"model": "tiny"}, list)
    message = f"the outputs of L{layer}H{head} are not finite on these samples; load"
    with pytest.raises(ih.UserError, match=message):
        ih.mean_head_outputs(model, SAMPLES, progress=False)
    fine = Model(Spoiled(layer, head, 7.0), None, {"model": "tiny"}, list)
    assert bool(ih.mean_head_outputs(fine, SAMPLES, progress=False).notnull().all())
