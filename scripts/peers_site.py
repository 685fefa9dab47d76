"""The files of vLLM and Humming that a comparison needs, in a folder small enough to carry.

python scripts/peers_site.py --wheels DIR --out DIR [--arch 90]

DIR holds the wheels vllm-*.whl and humming_kernels-*.whl, as `pip download --no-deps` leaves them.
On the GPU machine LIGHT_MOE_PEERS names the folder. transformers is taken from its Python.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.vllm_library import shrink
from search_spaces import UserError
from search_spaces.command_line import Parser, run_command, whole_number

MOE = "vllm/model_executor/layers/fused_moe"
LIBRARY = "vllm/_moe_C_stable_libtorch.abi3.so"
# The Triton kernels and how they are called, the tuned tables of Hopper cards in 16 bits.
VLLM_FILES = re.compile(
    rf"{MOE}/(fused_moe|moe_align_block_size)\.py"
    rf"|{MOE}/configs/E=\d+,N=\d+,device_name=NVIDIA_(H100_80GB_HBM3|H200)\.json"
    r"|vllm-[^/]+\.dist-info/(METADATA|licenses/LICENSE)"
)
HUMMING_FILES = re.compile(r"humming/(?!testing/).*|humming_kernels-[^/]+\.dist-info/.*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _make(make_parser().read(given)))


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", type=whole_number(1), default=90, help="default: %(default)s")
    return parser


def _make(options: argparse.Namespace) -> int:
    make_site(options.wheels, options.out, options.arch)
    files = [path for path in options.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{options.out}: {len(files)} files, {size / 2**20:.1f} MiB")
    return 0


def make_site(wheels: Path, out: Path, arch: int) -> None:
    """Fill ``out``. Raises UserError where a wheel is missing or is not as known here, before
    anything is written."""
    with _wheel(wheels, "vllm") as vllm, _wheel(wheels, "humming_kernels") as humming:
        wanted = [(vllm, _wanted(vllm, VLLM_FILES)), (humming, _wanted(humming, HUMMING_FILES))]
        if LIBRARY not in vllm.namelist():
            raise UserError(f"{vllm.filename} has no {LIBRARY}: it is another version than known")
        library = shrink(vllm.read(LIBRARY), arch)
        try:
            for wheel, names in wanted:
                wheel.extractall(out, names)
            (out / f"{LIBRARY}.xz").write_bytes(library)
        except OSError as error:
            raise UserError(f"cannot write to {out}: {error.strerror or error}") from error


def _wheel(folder: Path, name: str) -> zipfile.ZipFile:
    found = sorted(folder.glob(f"{name}-*.whl"))
    if not found:
        raise UserError(f"{folder} has no {name} wheel: pip download --no-deps it there")
    try:
        return zipfile.ZipFile(found[-1])
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{found[-1]} cannot be read as a wheel: {error}") from error


def _wanted(wheel: zipfile.ZipFile, pattern: re.Pattern[str]) -> list[str]:
    names = [name for name in wheel.namelist() if pattern.fullmatch(name)]
    if not names:
        raise UserError(f"{wheel.filename} holds none of the files wanted")
    return names


if __name__ == "__main__":
    sys.exit(main())
