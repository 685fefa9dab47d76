"""Discovery of compilers and headers: what is found, and what is said when something is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from search_spaces.errors import UserError
from templates.toolchain import cccl_headers, runtime_headers, toolchain

module = import_module("templates.toolchain")


@pytest.fixture
def fresh() -> Iterator[None]:
    toolchain.cache_clear()
    yield
    toolchain.cache_clear()


def test_finds_every_header_family() -> None:
    found = toolchain()
    for header in ("cute/tensor.hpp", "cuda/std/cstdint", "cuda_fp16.h"):
        assert any((folder / header).is_file() for folder in found.include_dirs), header
    assert found.nvjitlink_version >= found.nvrtc_version >= (12, 0)


def test_stand_ins_come_first_and_only_for_their_tier() -> None:
    path = toolchain().include_path("sm_75")
    assert (path[0] / "cute/atom/mma_traits_sm90_gmma.hpp").is_file()
    assert path[1] == module.OWN_INCLUDE
    assert toolchain().include_path("sm_80") == path[1:]


def test_missing_cute_names_the_package(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cutlass_library", None)
    with pytest.raises(UserError, match="install nvidia-cutlass"):
        toolchain()


def test_missing_cupy_names_the_package(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy_backends", None)
    with pytest.raises(UserError, match="install cupy-cuda12x"):
        toolchain()


def test_missing_nvjitlink_names_the_packages(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UserError, match="cuda-bindings and nvidia-nvjitlink"):
        toolchain()


def test_headers_of_another_cuda_major_do_not_count() -> None:
    with pytest.raises(UserError, match=r"CUDA 99 .* install nvidia-cuda-runtime$"):
        runtime_headers((99, 0))


def test_system_toolkit_is_found_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    include = tmp_path / "include"
    version = include / "cccl" / "cuda" / "std" / "__cccl" / "version.h"
    version.parent.mkdir(parents=True)
    version.write_text("#define CCCL_VERSION 9000000\n")
    (include / "cuda_fp16.h").touch()
    (include / "cuda_runtime_api.h").write_text("#define CUDART_VERSION  99010\n")
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    assert runtime_headers((99, 1)) == include
    assert cccl_headers((99, 1), beside=include) == include / "cccl"


def test_fingerprint_follows_our_headers(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = toolchain().fingerprint
    copy = tmp_path / "include"
    shutil.copytree(module.OWN_INCLUDE, copy)
    monkeypatch.setattr(module, "OWN_INCLUDE", copy)
    toolchain.cache_clear()
    assert toolchain().fingerprint == before, "the place of the headers must not matter"
    (copy / "light_moe").mkdir(exist_ok=True)
    (copy / "light_moe" / "added.cuh").write_text("// one more\n")
    toolchain.cache_clear()
    assert toolchain().fingerprint != before


def test_importing_templates_loads_no_compiler() -> None:
    """CLIs start fast, and one that lacks CuPy can say so in one line."""
    code = (
        "import sys, templates; print({'cupy', 'cupy_backends', 'cuda.bindings'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
