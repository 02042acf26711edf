"""Array types that functions on curves and per-item outcomes accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

FloatVector: TypeAlias = Sequence[float] | np.ndarray | pd.Series
"""One number per item, or one per point of a curve."""

FloatRows: TypeAlias = Sequence[Sequence[float] | np.ndarray] | np.ndarray | pd.Series
"""One row of numbers per item; rows may differ in length."""
