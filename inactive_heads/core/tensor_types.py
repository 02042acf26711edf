"""Array types, each named once.

Axis names are TransformerLens's: ``batch``, ``pos`` (or ``query`` and ``key``), ``head``,
``d_head``, ``d_model``. ``head`` counts *query* heads; ``kv_head`` counts key/value heads.
The types name shapes and kinds of numbers. jaxtyping and beartype check them while tests run.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch pos"]
TokenMask = Bool[Tensor, "batch pos"]
PerRow = Int[Tensor, " batch"]

PerHead = Float[Tensor, "batch head"]
PerToken = Float[Tensor, "batch pos head"]
HeadMask = Bool[Tensor, "batch head"]

HeadVectors = Float[Tensor, "batch pos head d_head"]
KeyValueVectors = Float[Tensor, "batch pos kv_head d_head"]
HeadMeans = Float[Tensor, "head d_head"]

Residual = Float[Tensor, "batch pos d_model"]
ResultVectors = Float[Tensor, "batch pos head d_model"]
OutputWeights = Float[Tensor, "head d_head d_model"]

Pattern = Float[Tensor, "batch head query key"]
HeadPattern = Float[Tensor, "batch query key"]

Logits = Float[Tensor, "kept d_vocab"]
FinalStates = Float[Tensor, "kept d_model"]
