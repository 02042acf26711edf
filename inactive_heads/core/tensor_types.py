"""Array types named once, and what scores, visitors and engines promise each other.

Axis names are TransformerLens's: ``batch``, ``pos`` (or ``query`` and ``key``), ``head``,
``d_head``, ``d_model``. Everything is per *query* head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    pass

Tokens = Int[Tensor, "batch pos"]


TokenMask = Bool[Tensor, "batch pos"]


PerRow = Int[Tensor, " batch"]


PerHead = Float[Tensor, "batch head"]


PerToken = Float[Tensor, "batch pos head"]


HeadMask = Bool[Tensor, "batch head"]


HeadVectors = Float[Tensor, "batch pos head d_head"]


KeyValueVectors = Float[Tensor, "batch pos kv_head d_head"]


Residual = Float[Tensor, "batch pos d_model"]


ResultVectors = Float[Tensor, "batch pos head d_model"]


Pattern = Float[Tensor, "batch head query key"]


HeadPattern = Float[Tensor, "batch query key"]


OutputWeights = Float[Tensor, "head d_head d_model"]


HeadMeans = Float[Tensor, "head d_head"]


Logits = Float[Tensor, "kept d_vocab"]
