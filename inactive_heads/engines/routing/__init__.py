"""Attention and head outputs of a Hugging Face network, routed to the run of an engine."""
