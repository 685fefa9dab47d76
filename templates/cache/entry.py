"""One cache entry: a folder with source, PTX, a cubin per architecture, and their report.

report.json names every file with its SHA-256, so that a damaged entry is seen and built again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from templates.built import Binary, Built
from templates.resources import Resources
from templates.variant import Variant, translation_unit

REPORT = "report.json"


def cubin_name(arch: str) -> str:
    return f"kernel.{arch}.cubin"


def read_entry(folder: Path, variant: Variant) -> Built | None:
    """What the folder holds intact: None without report or PTX, a damaged cubin is left out."""
    report = _read_report(folder)
    ptx = _intact(folder, "kernel.ptx", report)
    if report is None or ptx is None or _intact(folder, "source.cu", report) is None:
        return None
    binaries = {}
    for arch, resources in report["resources"].items():
        cubin = _intact(folder, cubin_name(arch), report)
        if cubin is not None:
            binaries[arch] = Binary(variant.entry, arch, cubin, Resources(**resources))
    return Built(variant, ptx.decode(), binaries, report["seconds"])


def write_entry(folder: Path, built: Built, facts: dict[str, str]) -> None:
    """Fill an empty folder and flush it to the disk. ``facts`` are kept for whoever looks."""
    files = {
        "source.cu": translation_unit([built.variant]).encode(),
        "kernel.ptx": built.ptx.encode(),
        **{cubin_name(arch): binary.cubin for arch, binary in built.binaries.items()},
    }
    report = {
        "op": built.variant.op,
        "entry": built.variant.entry,
        **facts,
        "seconds": built.seconds,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "resources": {arch: asdict(binary.resources) for arch, binary in built.binaries.items()},
    }
    for name, data in files.items():
        _write(folder / name, data)
    _write(folder / REPORT, json.dumps(report, indent=1).encode())
    sync_folder(folder)


def merge_entry(fresh: Path, into: Path) -> None:
    """Move what ``fresh`` has and ``into`` lacks. The report goes last and makes it count."""
    new, old = _read_report(fresh), _read_report(into)
    assert new is not None and old is not None
    for arch in new["resources"]:
        (fresh / cubin_name(arch)).replace(into / cubin_name(arch))
        old["files"][cubin_name(arch)] = new["files"][cubin_name(arch)]
        old["resources"][arch] = new["resources"][arch]
    _write(fresh / REPORT, json.dumps(old, indent=1).encode())
    (fresh / REPORT).replace(into / REPORT)
    sync_folder(into)


def sync_folder(folder: Path) -> None:
    """Make the folder's names durable: a rename alone may outrun the data it names."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_report(folder: Path) -> dict[str, Any] | None:
    try:
        report = json.loads((folder / REPORT).read_bytes())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    complete = isinstance(report, dict) and {"files", "resources", "seconds"} <= report.keys()
    return report if complete else None


def _intact(folder: Path, name: str, report: dict[str, Any] | None) -> bytes | None:
    """The file's content, or None when it is gone or is not what the report says."""
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        return None
    wanted = report["files"].get(name) if report else None
    return data if hashlib.sha256(data).hexdigest() == wanted else None
