"""Isa: what the instructions do, one module a family; ``known`` registers them all.

The source is NVIDIA's manual "Parallel Thread Execution ISA", version 9.1. The ``section`` of an
instruction is the title of the chapter that describes it under its name, without the last word
("Integer Arithmetic Instructions"): titles stay when numbers shift from version to version.
"""
