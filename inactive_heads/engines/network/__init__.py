"""A Hugging Face network while it runs: its blocks, attention, rotary angles and settings."""
