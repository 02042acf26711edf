"""Models in .gguf files: metadata, tensors and tokenizers, read so that nothing stored is dropped.

Every metadata key of the architecture is read or known not to matter, every tensor is used, and
every weight of the model is filled; what cannot be read is refused by name.
"""
