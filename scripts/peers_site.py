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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", type=int, default=90, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        make_site(options.wheels, options.out, options.arch)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = [path for path in options.out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{options.out}: {len(files)} files, {size / 2**20:.1f} MiB")
    return 0


def make_site(wheels: Path, out: Path, arch: int) -> None:
    """Fill ``out``. Raises UserError where a wheel is missing or is not as known here."""
    with zipfile.ZipFile(_wheel(wheels, "vllm")) as wheel:
        _extract(wheel, VLLM_FILES, out)
        if LIBRARY not in wheel.namelist():
            raise UserError(f"{wheel.filename} has no {LIBRARY}: it is another version than known")
        packed = out / f"{LIBRARY}.xz"
        packed.write_bytes(shrink(wheel.read(LIBRARY), arch))
    with zipfile.ZipFile(_wheel(wheels, "humming_kernels")) as wheel:
        _extract(wheel, HUMMING_FILES, out)


def _wheel(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name}-*.whl"))
    if not found:
        raise UserError(f"{folder} has no {name} wheel: pip download --no-deps it there")
    return found[-1]


def _extract(wheel: zipfile.ZipFile, wanted: re.Pattern[str], out: Path) -> None:
    names = [name for name in wheel.namelist() if wanted.fullmatch(name)]
    if not names:
        raise UserError(f"{wheel.filename} holds none of the files wanted")
    wheel.extractall(out, names)


if __name__ == "__main__":
    sys.exit(main())
