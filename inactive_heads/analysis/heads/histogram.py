"""Histograms of scores."""

from __future__ import annotations

import numpy as np

from inactive_heads.errors import UserError


def histogram(values: np.ndarray, *, bins: int = 60) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the histogram of the finite values, with outliers left out.

    The bars cover the whole range, unless it is more than twice as long as the range of the middle
    99%; then they cover the latter.

    Args:
        values: numbers of any shape; those that are not finite are ignored.
        bins: the number of bars, all of equal width.

    Returns:
        The edges of the bars ``(bins + 1,)``, their counts ``(bins,)``, and the number of finite
        values outside the range.

    Raises:
        UserError: there is no finite value.
    """
    flat = np.asarray(values, dtype=float).ravel()
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        raise UserError("there is no finite value to count")
    low, high = float(flat.min()), float(flat.max())
    inner_low, inner_high = (float(q) for q in np.quantile(flat, [0.005, 0.995]))
    reach = 2 * (inner_high - inner_low)
    if reach > 0 and high - low > reach:
        low, high = inner_low, inner_high
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(flat, bins=bins, range=(low, high))
    return edges, counts, int(len(flat) - counts.sum())
