"""From a path to the texts or questions in its files, each once."""
