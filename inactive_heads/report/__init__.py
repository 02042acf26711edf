"""A report: run what it asks for, draw conclusions, write one page."""
