"""The activations of one layer's heads on a batch, and the types they are made of."""
