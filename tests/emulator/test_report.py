"""The report: every count beside its ideal, two launches side by side, lines, and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.bench import entry_of
from tuner.emulator.banks import SharedCounts
from tuner.emulator.counters import Counters
from tuner.emulator.counts import Totals
from tuner.emulator.figure import Figure, figures
from tuner.emulator.report import as_data, comparison_table, lines_table, totals_table
from tuner.emulator.sectors import GlobalCounts

TOTALS = Totals(
    instructions=1_234_567,
    threads=39_506_144,
    threads_on=39_506_100,
    by_class={"tensor": 4096, "integer": 900},
    by_opcode={"mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16": 4096, "add.s32": 900},
    mma=4096,
    flops=8_388_608,
    shared={"store": SharedCounts(4, 32, 16, 2048), "matrix": SharedCounts(8, 24, 24, 3072)},
    globals={"load": GlobalCounts(10, 60, 40, 1280), "store": GlobalCounts(2, 8, 8, 256)},
    barriers=16,
    divergent=3,
)


def cells(table: str) -> dict[str, list[str]]:
    """Rows by their name; columns are two blanks apart."""
    rows = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_totals_stand_beside_their_ideals() -> None:
    ideals = {"mma": 2048, "flops": 4_194_304, "read_bytes": 960, "written_bytes": 256}
    table = totals_table(TOTALS, ideals)
    found = cells(table)
    assert found[""] == ["counted", "ideal", "times ideal"]
    assert found["warp instructions"] == ["1,234,567", "–"]
    assert found["tensor instructions"] == ["4,096", "–"]
    assert found["predicated off"] == ["44", "–"]
    assert found["mma"] == ["4,096", "2,048", "2.000"]
    assert found["flops"] == ["8,388,608", "4,194,304", "2.000"]
    assert found["shared store wavefronts"] == ["32", "16", "2.000"]
    assert found["shared store conflicts"] == ["16", "0"]
    assert found["shared ldmatrix conflicts"] == ["0", "0"]
    assert found["global load sectors"] == ["60", "40", "1.500"]
    assert found["read bytes"] == ["1,920", "960", "2.000"]
    assert found["written bytes"] == ["256", "256", "1.000"]
    assert found["divergent branches"] == ["3", "0"]
    assert not any("atomic" in name for name in found)
    ends = {len(line) for line in table.splitlines() if line.endswith("00")}
    assert len(ends) == 1  # aligned


def test_an_ideal_needs_a_figure() -> None:
    with pytest.raises(ValueError, match="ideals of no figure: mmas"):
        figures(TOTALS, {"mmas": 1})


def test_ratio_needs_an_ideal() -> None:
    assert Figure("x y", 3, 2).ratio == 1.5
    assert Figure("x y", 3, 0).ratio is None
    assert Figure("x y", 3).ratio is None
    assert Figure("shared cp.async bytes", 3).key == "shared_cp_async_bytes"


def test_two_launches_side_by_side() -> None:
    other = replace(
        TOTALS,
        shared={**TOTALS.shared, "store": SharedCounts(4, 16, 16, 2048)},
        globals={**TOTALS.globals, "atomic": GlobalCounts(1, 1, 1, 4)},
        divergent=0,
    )
    table = comparison_table(("plain", "swizzled"), (TOTALS, other))
    assert table.startswith("A: plain\nB: swizzled\n\n")
    found = cells(table)
    assert found["shared store wavefronts"] == ["32", "2.000", "16", "1.000", "0.500"]
    assert found["shared store conflicts"] == ["16", "0", "0.000"]
    assert found["global atomic sectors"] == ["0", "1", "1.000"]
    assert found["divergent branches"] == ["3", "0", "0.000"]
    names = list(found)
    assert names.index("global atomic requests") == names.index("global store bytes") + 1
    swapped = comparison_table(
        ("swizzled", "plain"), (other, TOTALS), ({"mma": 1024}, {"mma": 512})
    )
    assert cells(swapped)["mma"] == ["4,096", "4.000", "4,096", "8.000", "1.000"]


BODY = """
    add.s32 %r1, %r2, %r3;
    ld.shared.u32 %r4, [%r1];
    @%p1 st.global.u32 [%rd1], %r1;
    add.s32 %r5, %r2, %r3;
    add.s32 %r6, %r2, %r3;
"""


def counters() -> Counters:
    found = Counters(entry_of(BODY).instructions)
    found.executed(0, 4, 2, 64)
    found.executed(3, 4, 9, 288)
    found.predicated_off(2, 32)
    lane = np.arange(64, dtype=np.uint64)
    found.shared(found.instructions[1].line, "load", lane * np.uint64(8), None, 4)
    found.globals(found.instructions[2].line, "store", lane * np.uint64(64), lane < 32, 4)
    return found


def test_lines_that_ran_in_their_order() -> None:
    table = lines_table(counters().by_line())
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert rows[0] == [
        "line", "warps", "threads", "wavefronts", "conflicts", "sectors", "excess", "PTX",
    ]  # fmt: skip
    none = ["–"] * 4
    assert [row[1:] for row in rows[1:]] == [
        ["2", "32.0", *none, "add.s32 %r1, %r2, %r3"],
        ["2", "32.0", "4", "2", "–", "–", "ld.shared.u32 %r4, [%r1]"],
        ["2", "16.0", "–", "–", "32", "28", "@%p1 st.global.u32 [%rd1], %r1"],
        ["11", "32.0", *none, "add.s32 %r5, %r2, %r3"],
    ]


@pytest.mark.parametrize(
    ("most", "texts"),
    [(1, ["@%p1 st"]), (2, ["ld.shared", "@%p1 st"]), (3, ["ld.shared", "@%p1 st", "add.s32 %r5"])],
)
def test_lines_that_cost_the_most(most: int, texts: list[str]) -> None:
    rows = lines_table(counters().by_line(), most).splitlines()[1:]
    assert len(rows) == len(texts)
    assert all(text in row for text, row in zip(texts, rows, strict=True))


def test_long_statements_are_cut() -> None:
    long = "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3},{%r1,%r2},{%r3},"
    found = Counters(entry_of(f"{long}{{%f0,%f1,%f2,%f3}};").instructions)
    found.executed(0, 1, 1, 32)
    [row] = lines_table(found.by_line()).splitlines()[1:]
    assert row.endswith("...")


def test_data_goes_through_json() -> None:
    found = counters()
    data = as_data(found.totals(), {"written_bytes": 128}, found.by_line())
    assert json.loads(json.dumps(data)) == data
    assert data["figures"]["written_bytes"] == {"value": 1024, "ideal": 128}
    assert data["figures"]["shared_load_wavefronts"] == {"value": 4, "ideal": 2}
    assert data["figures"]["warp_instructions"] == {"value": 17, "ideal": None}
    assert data["by_opcode"] == {"add.s32": 13, "ld.shared.u32": 2, "st.global.u32": 2}
    assert [line["warps"] for line in data["lines"]] == [2, 2, 2, 11]
    assert data["lines"][1]["shared"] == {"requests": 2, "wavefronts": 4, "ideal": 2, "bytes": 256}
    assert "lines" not in as_data(found.totals())
