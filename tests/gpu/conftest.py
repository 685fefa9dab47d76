"""What the GPU's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from templates import CompilePool


@pytest.fixture(scope="session")
def pool() -> Iterator[CompilePool]:
    """One for all modules: sixteen compilers take seconds to start."""
    with CompilePool() as pool:
        yield pool
