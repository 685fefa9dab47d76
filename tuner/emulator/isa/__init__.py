"""Isa: what the instructions do, one module a family; ``known`` registers them all."""
