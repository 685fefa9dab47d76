"""What ``python -m engine.measure`` is made of: inputs, an oracle, a stopwatch."""
