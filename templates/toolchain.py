"""Toolchain: which NVRTC, nvJitLink and headers this Python has. All version handling is here.

Headers come from wheels (CUDA 12: ``nvidia/cuda_runtime/include``, ``nvidia/cuda_cccl/include``;
CUDA 13: ``nvidia/cu13/include``) or from a system toolkit. Neither a GPU nor a driver is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from search_spaces.errors import UserError

OWN_INCLUDE = Path(__file__).resolve().parent / "include"


@dataclass(frozen=True)
class Toolchain:
    """Versions are (major, minor). ``include_dirs``: CuTe, CUDA runtime and CCCL headers.

    ``fingerprint`` stands for every version and for the content of our own headers: builds with
    equal source, options and fingerprint are interchangeable.
    """

    nvrtc_version: tuple[int, int]
    nvjitlink_version: tuple[int, int]
    include_dirs: tuple[Path, ...]
    fingerprint: str

    def include_path(self, tier: str) -> tuple[Path, ...]:
        """Where the compiler looks, in order: first stand-ins for headers the tier does not use."""
        standins = OWN_INCLUDE / "standins" / tier
        first = (standins,) if standins.is_dir() else ()
        return (*first, OWN_INCLUDE, *self.include_dirs)


@lru_cache(maxsize=1)
def toolchain() -> Toolchain:
    """Find everything a build needs. Raises UserError naming the package to install."""
    nvrtc, jitlink = _nvrtc_version(), _nvjitlink_version()
    if jitlink < nvrtc:
        raise UserError(
            f"nvJitLink {_dotted(jitlink)} cannot read the PTX of NVRTC {_dotted(nvrtc)}: install "
            f"nvidia-nvjitlink{_suffix(nvrtc)}>={_dotted(nvrtc)}"
        )
    cute, runtime = cute_headers(), runtime_headers(nvrtc)
    cccl = cccl_headers(nvrtc, beside=runtime)
    versions = (
        f"nvrtc {nvrtc} nvjitlink {jitlink}",
        _defines(cute / "cutlass" / "version.h", r"CUTLASS_(?:MAJOR|MINOR|PATCH)"),
        _defines(runtime / "cuda_runtime_api.h", "CUDART_VERSION"),
        _defines(cccl / "cuda" / "std" / "__cccl" / "version.h", "CCCL_VERSION"),
        _content_hash(OWN_INCLUDE),
    )
    fingerprint = hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16]
    # With CUDA 13, CuTe spells its includes <cccl/cuda/std/...> and CCCL's own do not.
    above = (cccl.parent,) if cccl.name == "cccl" else ()
    include_dirs = tuple(dict.fromkeys((cute, cccl, *above, runtime)))
    return Toolchain(nvrtc, jitlink, include_dirs, fingerprint)


def _nvrtc_version() -> tuple[int, int]:
    if find_spec("cupy_backends") is None:
        raise UserError("CuPy is missing: install cupy-cuda12x (or cupy-cuda13x with CUDA 13)")
    try:
        from cupy_backends.cuda.libs import nvrtc

        major, minor = nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            "NVRTC cannot be loaded: install nvidia-cuda-nvrtc-cu12, or nvidia-cuda-nvrtc for "
            f"cupy-cuda13x ({error})"
        ) from error
    return major, minor


def _nvjitlink_version() -> tuple[int, int]:
    # cuda.bindings raises its own error class, a RuntimeError, when the library is not found.
    try:
        from cuda.bindings import nvjitlink

        major, minor = nvjitlink.version()
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            "nvJitLink cannot be loaded: install cuda-bindings and nvidia-nvjitlink-cu12 "
            f"of the same CUDA version as NVRTC ({error})"
        ) from error
    return major, minor


def cute_headers() -> Path:
    """From the nvidia-cutlass wheel, which need not be importable: its dependencies are many."""
    spec = find_spec("cutlass_library")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    return _first(
        (Path(root) / "source" / "include" for root in roots), "cute/tensor.hpp",
        "CuTe headers are missing: install nvidia-cutlass",
    )  # fmt: skip


def runtime_headers(nvrtc: tuple[int, int]) -> Path:
    """The folder with ``cuda_fp16.h``, of NVRTC's own major version."""
    major = nvrtc[0]
    fitting = (
        folder
        for folder in _cuda_include_dirs(major)
        if f"CUDART_VERSION {major}" in _defines(folder / "cuda_runtime_api.h", "CUDART_VERSION")
    )
    return _first(
        fitting, "cuda_fp16.h",
        f"CUDA {major} runtime headers are missing: install nvidia-cuda-runtime{_suffix(nvrtc)}",
    )  # fmt: skip


def cccl_headers(nvrtc: tuple[int, int], beside: Path) -> Path:
    """The folder with ``cuda/std``: of the toolkit that ``beside`` belongs to, where it has one."""
    folders = [beside, *_cuda_include_dirs(nvrtc[0])]
    return _first(
        (place for folder in folders for place in (folder, folder / "cccl")),
        "cuda/std/__cccl/version.h",
        f"CCCL headers (cuda/std) are missing: install nvidia-cuda-cccl{_suffix(nvrtc)}",
    )


def _cuda_include_dirs(major: int) -> Iterator[Path]:
    """Wheels of this Python before system toolkits: they are the ones NVRTC was installed with."""
    spec = find_spec("nvidia")
    for root in map(Path, spec.submodule_search_locations or () if spec else ()):
        yield root / f"cu{major}" / "include"
        yield root / "cuda_runtime" / "include"
        yield root / "cuda_cccl" / "include"
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME")]
    homes += [str(Path(nvcc).resolve().parent.parent)] if nvcc else []
    for home in (*filter(None, homes), "/usr/local/cuda"):
        yield Path(home) / "include"
        yield Path(home) / "targets" / "x86_64-linux" / "include"


def _first(folders: Iterable[Path], marker: str, missing: str) -> Path:
    for folder in folders:
        if (folder / marker).is_file():
            return folder
    raise UserError(missing)


def _defines(header: Path, names: str) -> str:
    """The matching ``#define NAME value`` lines; empty when there is no such file."""
    if not header.is_file():
        return ""
    text = header.read_text(encoding="utf-8", errors="replace")
    found = re.findall(rf"^#\s*define\s+({names})\s+(\d+)", text, re.MULTILINE)
    return " ".join(f"{name} {value}" for name, value in found)


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*.*") if path.suffix in (".cuh", ".hpp")):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _suffix(version: tuple[int, int]) -> str:
    """CUDA 12 wheels are named ...-cu12; from CUDA 13 on, wheels carry no suffix."""
    return "-cu12" if version[0] == 12 else ""
