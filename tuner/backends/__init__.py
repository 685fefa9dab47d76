"""Backends: who tells how fast a config is (a GPU, the cost model, a recording)."""
