"""A Hugging Face network while it runs: its blocks, residual stream, rotary angles and settings."""
