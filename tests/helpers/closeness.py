"""Numbers that are equal but for rounding, whatever processor rounds and in whatever order."""

import numpy as np
import torch


def assert_close(found, expected, *, rtol, axis=None, err_msg=""):
    """No number is off by more than ``rtol`` of the largest that is expected.

    What rounding leaves has the size of the terms of a sum, not of the sum: a number that comes
    out near zero among larger ones is as far off as they are. ``axis`` says over which axes
    numbers are of one kind and scale (all); NaN must stand at the same places.
    """
    found, expected = _numbers(found), _numbers(expected)
    assert found.shape == expected.shape
    size = np.abs(np.where(np.isfinite(expected), expected, 0))
    size = np.maximum(size.max(axis=axis, keepdims=True), np.finfo(np.float32).tiny)
    np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=rtol, err_msg=err_msg)


def _numbers(values):
    if isinstance(values, torch.Tensor):
        return values.detach().double().numpy()
    return np.asarray(values, dtype=np.float64)
