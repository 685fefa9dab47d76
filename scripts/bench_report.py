"""What every benchmark writes: figures as JSON, tables as Markdown, and where they come from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from search_spaces import UserError
from tuner.provenance import git_revision, versions

Case = TypeVar("Case")


def in_time(
    groups: Sequence[Sequence[Case]], end: float, left_out: list[Case]
) -> Iterator[tuple[Case, float]]:
    """Cases with their deadlines, one by one while there is time; others go to ``left_out``.

    Each group has an equal share of what is left until ``end``, so that none is left out whole.
    Times are seconds of ``time.monotonic``.
    """
    for number, group in enumerate(groups):
        now = time.monotonic()
        deadline = now + (end - now) / (len(groups) - number)
        for case in group:
            if time.monotonic() > deadline:
                left_out.append(case)
            else:
                yield case, deadline


def provenance(command: str) -> dict[str, str]:
    """The GPU, the software and the command, in the order of telling."""
    import pynvml
    import torch
    from cupy_backends.cuda.libs import nvrtc

    pynvml.nvmlInit()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "GPU": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        "NVRTC": ".".join(map(str, nvrtc.getVersion())),
        "packages": packages,
        "git revision": git_revision() or "unknown (no checkout)",
        "command": f"`{command}`",
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, the first column to the left and all others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def out_folder(given: Path | None) -> Path:
    """``--out``, else $OUT, else build/results."""
    return given or Path(os.environ.get("OUT", "build/results"))


def write(
    folder: Path,
    name: str,
    title: str,
    facts: Mapping[str, str],
    body: Sequence[str],
    data: Mapping[str, Any],
) -> list[Path]:
    """Write ``name.md`` and ``name.json``; returns both. Raises UserError when it cannot."""
    head = [f"# {title}", "", "| | |", "|---|---|"]
    head += [f"| {key} | {value} |" for key, value in facts.items()]
    texts = {
        folder / f"{name}.md": "\n".join([*head, "", *body, ""]),
        folder / f"{name}.json": json.dumps({"provenance": facts, **data}, indent=1) + "\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return list(texts)
