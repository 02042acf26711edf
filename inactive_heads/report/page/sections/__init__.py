"""The sections of the page below its first screen."""
