"""From files, or a description of random weights, to a network."""
