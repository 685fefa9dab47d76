"""Peer files for a machine without a network: device code of one architecture, few files."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
from pathlib import Path

import pytest

from scripts.peers_site import LIBRARY, MOE, main
from scripts.vllm_library import architectures, shrink
from search_spaces import UserError

PTX, MACHINE_CODE = 1, 2


def fat_binary(*entries: tuple[int, int, bytes]) -> bytes:
    """(kind, architecture, code) as fatbinary lays them out."""
    parts = []
    for kind, arch, code in entries:
        header = struct.pack("<HHIQ", kind, 0x101, 64, len(code)).ljust(28, b"\1")
        parts.append((header + struct.pack("<I", arch)).ljust(64, b"\2") + code)
    body = b"".join(parts)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_only_one_architectures_code_is_kept() -> None:
    kept, gone, ptx = os.urandom(256), os.urandom(4096), os.urandom(512)
    host, stray = os.urandom(100), struct.pack("<I", 0xBA55ED50) + b"no fat binary at all"
    first = fat_binary((MACHINE_CODE, 80, gone), (MACHINE_CODE, 90, kept))
    second = fat_binary((PTX, 80, ptx), (MACHINE_CODE, 120, gone))
    library = host + first + stray + second + host
    packed = shrink(library, 90)
    small = lzma.decompress(packed)
    assert len(small) == len(library)
    assert len(packed) < len(library) - len(gone)
    assert small.startswith(host) and small.endswith(host)
    assert kept in small and stray in small
    assert gone[:64] not in small and ptx[:64] not in small
    assert architectures(library) == [(2, 80), (2, 90), (1, 80), (2, 120)]
    assert architectures(small) == [(2, 75), (2, 90), (2, 75), (2, 75)]
    with pytest.raises(UserError, match="no machine code for sm_86"):
        shrink(library, 86)


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def test_a_site_holds_what_the_peers_read_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--wheels", str(tmp_path), "--out", str(tmp_path / "site")]
    assert main(arguments) == 2
    assert "has no vllm wheel: pip download" in capsys.readouterr().err
    table = "E=8,N=64,device_name=NVIDIA_H200"
    files = {
        f"{MOE}/fused_moe.py": b"1", f"{MOE}/layer.py": b"2", f"{MOE}/configs/{table}.json": b"{}",
        f"{MOE}/configs/{table},dtype=fp8_w8a8.json": b"{}", "vllm/other.py": b"3",
        LIBRARY: fat_binary((MACHINE_CODE, 90, b"12345678")),
    }  # fmt: skip
    wheel(tmp_path, "vllm", files)
    wheel(tmp_path, "humming_kernels", {"humming/a.cuh": b"4", "humming/testing/b.py": b"5"})
    assert main([*arguments, "--arch", "86"]) == 2
    assert "no machine code for sm_86" in capsys.readouterr().err
    assert not (tmp_path / "site").exists(), "nothing half-written"
    assert main(arguments) == 0
    assert "4 files" in capsys.readouterr().out
    site = tmp_path / "site"
    found = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    wanted = {f"{MOE}/fused_moe.py", f"{MOE}/configs/{table}.json", f"{LIBRARY}.xz"}
    assert found == wanted | {"humming/a.cuh"}


def test_a_broken_wheel_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vllm-1.0-py3-none-any.whl").write_bytes(b"half a download")
    assert main(["--wheels", str(tmp_path), "--out", str(tmp_path / "site")]) == 2
    assert "cannot be read as a wheel" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
