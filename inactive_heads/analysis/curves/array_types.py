"""Types of the arrays that functions on curves and outcomes take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

FloatVector: TypeAlias = Sequence[float] | np.ndarray | pd.Series
"""One number per item, or per point of a curve."""

FloatRows: TypeAlias = Sequence[Sequence[float] | np.ndarray] | np.ndarray | pd.Series
"""Several numbers per item, not the same number of them for every item."""
