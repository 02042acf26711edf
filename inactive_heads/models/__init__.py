"""From a model's name to weights, tokenizer and batches of its inputs."""
