"""pycute layouts as finished ``cute::Layout`` type literals."""

from __future__ import annotations

from pycute import Layout, flatten


def literal(layout: Layout) -> str:
    """A flat static layout, e.g. ``Layout<Shape<Int<4>, Int<32>>, Stride<Int<8>, Int<72>>>``.

    Modes of extent 1 are dropped: each mode costs the compiler instantiations.
    """
    shape, stride = (list(flatten(mode)) for mode in (layout.shape, layout.stride))
    modes = [(s, d) for s, d in zip(shape, stride, strict=True) if s != 1] or [(1, 0)]
    shapes = ", ".join(f"Int<{extent}>" for extent, _ in modes)
    strides = ", ".join(f"Int<{step}>" for _, step in modes)
    return f"Layout<Shape<{shapes}>, Stride<{strides}>>"
