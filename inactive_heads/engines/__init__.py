"""How a model is run so that a visitor sees its heads."""
