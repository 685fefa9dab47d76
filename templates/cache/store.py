"""KernelCache: content-addressed store of built variants, safe under concurrent builders.

An entry is filled in a temporary folder, flushed, and renamed into place, so that readers never
lock and never see half of one (the way of DeepGEMM's kernel cache). Writers hold one lock for the
rename only. Keys hold no path, no time and no batch mate.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
from filelock import FileLock

from search_spaces.errors import UserError
from templates.built import Built, Target
from templates.cache.entry import (
    REPORT,
    cubin_name,
    merge_entry,
    read_entry,
    sync_folder,
    write_entry,
)
from templates.options import OPTIONS
from templates.toolchain import toolchain
from templates.variant import Variant, translation_unit

_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class CacheSize:
    """``kernels`` counts variants, ``bytes`` all their files."""

    kernels: int
    bytes: int


class KernelCache:
    """Built variants under ``root``: by default LIGHT_MOE_CACHE, else the user's cache folder."""

    def __init__(self, root: Path | None = None) -> None:
        chosen = os.environ.get("LIGHT_MOE_CACHE")
        fallback = Path(chosen) if chosen else platformdirs.user_cache_path("light-moe")
        self.root = (root or fallback).expanduser().absolute()

    def folder(self, variant: Variant, ptx_arch: str) -> Path:
        """Where the entry of this source, toolchain and virtual architecture lies, or would."""
        parts = (translation_unit([variant]), toolchain().fingerprint, *OPTIONS, ptx_arch)
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
        return self.root / "kernels" / key[:2] / key

    def cubin_path(self, variant: Variant, ptx_arch: str, arch: str) -> Path:
        """The machine code's file, for ``cupy.RawModule(path=...)``."""
        return self.folder(variant, ptx_arch) / cubin_name(arch)

    def load(self, variant: Variant, target: Target) -> Built | None:
        """The variant with exactly ``target``'s architectures; None unless all are here."""
        built = self.load_any(variant, target.ptx_arch)
        if built is None or not set(target.archs) <= built.binaries.keys():
            return None
        return replace(built, binaries={arch: built.binaries[arch] for arch in target.archs})

    def load_any(self, variant: Variant, ptx_arch: str) -> Built | None:
        """The variant with the architectures built so far; None when its PTX is not here."""
        folder = self.folder(variant, ptx_arch)
        with self._explained("read"):
            built = read_entry(folder, variant)
        if built is not None:
            # The report's time says when the entry was last of use; --prune goes by it. In a
            # read-only cache it stays as it is.
            with suppress(OSError):
                os.utime(folder / REPORT)
        return built

    def store(self, built: Built, ptx_arch: str) -> None:
        """Keep a built variant, or add its architectures to the entry that is there.

        Raises UserError when the disk is full or not writable; nothing half-written stays.
        """
        folder = self.folder(built.variant, ptx_arch)
        facts = {"ptx_arch": ptx_arch, "toolchain": toolchain().fingerprint}
        with self._explained("write"), self._scratch() as scratch:
            write_entry(scratch, built, facts)
            with self._lock():
                if read_entry(folder, built.variant) is not None:
                    merge_entry(scratch, folder)
                    return
                folder.parent.mkdir(parents=True, exist_ok=True)
                if folder.exists():  # damaged: out of the way in one step
                    folder.replace(scratch.with_name(f"{scratch.name}-damaged"))
                scratch.replace(folder)
                sync_folder(folder.parent)

    def check(self) -> None:
        """Make the cache's folder. Raises UserError when nothing can be written there."""
        with self._explained("write"), self._scratch():
            pass

    def size(self) -> CacheSize:
        """Count what is in the cache. Raises UserError when it cannot be read."""
        with self._explained("read"):
            return _total(self._entries())

    def prune(self, days: float) -> CacheSize:
        """Remove what nobody used for ``days`` days, and what killed builders left behind."""
        now = time.time()
        with self._explained("clean"), self._lock():
            old = [
                entry
                for entry in self._entries()
                if not (entry / REPORT).is_file() or _age(entry / REPORT, now) >= days * 86400
            ]
            removed = _total(old)
            for entry in old:
                shutil.rmtree(entry)
            for scratch in (self.root / "tmp").glob("*"):
                if _age(scratch, now) >= _ABANDONED_SECONDS:
                    shutil.rmtree(scratch, ignore_errors=True)
        return removed

    def _entries(self) -> list[Path]:
        with suppress(FileNotFoundError):
            next(self.root.iterdir(), None)  # glob takes a file for an empty folder
        return sorted((self.root / "kernels").glob("*/*"))

    def _lock(self) -> FileLock:
        return FileLock(self.root / "lock")

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder.with_name(f"{folder.name}-damaged"), ignore_errors=True)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot {action} the kernel cache {self.root}: {error.strerror or error}; make "
                "room (python -m templates.cache --prune) or set LIGHT_MOE_CACHE to another folder"
            ) from error


def _age(path: Path, now: float) -> float:
    return now - path.stat().st_mtime


def _total(entries: list[Path]) -> CacheSize:
    sizes = [file.stat().st_size for entry in entries for file in entry.iterdir()]
    return CacheSize(len(entries), sum(sizes))
