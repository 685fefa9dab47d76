"""Searches, measures and reports: `python -m tuner.search` and `python -m tuner.run`."""
