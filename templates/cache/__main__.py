"""``python -m templates.cache --size | --prune [--days N]``: look after the kernel cache."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from search_spaces.command_line import Parser, run_command, whole_number
from search_spaces.errors import UserError
from templates.cache import CacheSize, KernelCache

DAYS, LONGEST = 30, 36_500
_MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _run(_parser().read(given)))


def _parser() -> Parser:
    parser = Parser(prog="python -m templates.cache", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--size", action="store_true", help="count kernels and bytes")
    action.add_argument("--prune", action="store_true", help="remove kernels long unused")
    parser.add_argument(
        "--days", type=whole_number(0, LONGEST), metavar="N",
        help=f"with --prune: remove what was not used for N days ({DAYS}); 0 removes all",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.size and options.days is not None:
        raise UserError("--days goes with --prune: --size counts all kernels")
    cache = KernelCache()
    days = DAYS if options.days is None else options.days
    found = cache.prune(days) if options.prune else cache.size()
    if options.json:
        report = {"root": str(cache.root), "kernels": found.kernels, "bytes": found.bytes}
        print(json.dumps({"action": "prune" if options.prune else "size", **report}))
    elif options.prune:
        print(f"removed {_told(found)} from {cache.root}")
    else:
        print(f"{_told(found)} in {cache.root}")
    return 0


def _told(found: CacheSize) -> str:
    return f"{found.kernels:,} kernels ({found.bytes / _MB:,.1f} MB)"


if __name__ == "__main__":
    sys.exit(main())
