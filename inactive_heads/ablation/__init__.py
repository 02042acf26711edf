"""Which heads are silenced, and a run of the model with them."""
