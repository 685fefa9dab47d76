"""What the emulated kernels' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from templates import CompilePool


@pytest.fixture(scope="module")
def pool() -> Iterator[CompilePool]:
    """Compilers, while torch keeps to one thread: the cores are theirs and the emulator's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with CompilePool(workers=2) as pool:
        yield pool
    torch.set_num_threads(threads)
