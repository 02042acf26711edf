"""The notebook explorer: a widget that shows every head and responds to clicks."""
