"""Reports: run the sweeps, summarize the results, and write one page."""
