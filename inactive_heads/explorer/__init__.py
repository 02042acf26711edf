"""The notebook explorer: a widget that shows every head and answers to clicks."""
