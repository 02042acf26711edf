"""What one layer's heads did on a batch, and what that is made of."""
