"""Loads models, dispatches to tuned kernels, serves. See engine.kernels."""
