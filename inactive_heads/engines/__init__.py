"""Engines run a model so that a visitor sees its heads. Engine authors import everything from here.

What an engine must do, as the protocol `Engine` states in detail:

1. Describe the model in ``shape``, a `ModelShape`; `ModelShape.of_layers`, if layers differ.
2. In ``run``, compute each attention layer's value vectors v and head outputs z, the input of W_O.
3. Wrap them in `HeadActivations`, with their attention statistics (`PatternStatistics`, if you have
   the pattern) and their `OutputPath`, and call the visitor with it.
4. Apply the `Silence` that the visitor returns (``silence.apply(z)``) before going on.
5. Return float32 next-token logits after the tokens in ``keep``, unaffected by padding.

A `SharingEngine` can also run shared prefixes once, and an `UnembeddingEngine` spares a second run
where texts are compared with the unablated model. CONTRIBUTING.md has a complete example.
"""

from inactive_heads.core.activations import HeadActivations
from inactive_heads.core.attention_statistics import PatternStatistics
from inactive_heads.core.batch import TokenBatch
from inactive_heads.core.model_shape import HeadSizes, ModelShape
from inactive_heads.core.output_path import OutputPath
from inactive_heads.engines.base import (
    Engine,
    SharingEngine,
    Silence,
    UnembeddingEngine,
    Visitor,
)

__all__ = [
    # the protocols, and what passes between an engine and a visitor
    "Engine",
    "SharingEngine",
    "UnembeddingEngine",
    "HeadSizes",
    "ModelShape",
    "Silence",
    "Visitor",
    # what a visitor sees
    "HeadActivations",
    "PatternStatistics",
    "OutputPath",
    "TokenBatch",
]
