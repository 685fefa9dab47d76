"""The emulator's figures: its benchmark, and bank conflicts counted layout by layout."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import bench_emulator, count_swizzles
from scripts.bench_emulator import WAYS, measure, one_core
from scripts.count_swizzles import FIXED, count, layouts_of, shape_name, shapes_of_the_space
from scripts.emulator_runs import CONTROL, START, kinds_of, make_case
from scripts.swizzle_tables import body
from search_spaces import space_for
from search_spaces.grouped_gemm import GroupedGemmConfig
from tests.conftest import ROOT

SMALL = "16x32x32_w1x1x1_s1_none_f32_r1x8_mn_ca_o1_g1_k1"
K = 64
MMAS = 4 * K // 8  # 16x8 blocks of C x k8, all by one warp


def test_every_way_executes_the_same_instructions() -> None:
    costs = measure(make_case(SMALL, K, 1, 1), repeat=1)
    assert set(costs) == set(WAYS)
    assert len({cost.warp_instructions for cost in costs.values()}) == 1
    for cost in costs.values():
        assert cost.thread_instructions == 32 * cost.warp_instructions
        assert 0 < cost.start_s < cost.cpu_s
        assert cost.running_s == pytest.approx(cost.cpu_s - cost.start_s)


def test_a_cohort_executes_an_instruction_once_for_all_its_ctas() -> None:
    case = make_case(SMALL, K, 2, 3)
    assert case.ctas == 6
    kinds = {kind.name: kind for kind in kinds_of(case, 1)}
    assert kinds["tensor"].steps == MMAS
    assert kinds["matrix load"].steps == 2 * MMAS // 4
    assert {CONTROL, START} < set(kinds)
    total = sum(kind.cpu_s for kind in kinds.values())
    assert total > kinds["tensor"].cpu_s > 0


def test_the_benchmark_leaves_the_process_its_cores() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_the_benchmark_writes_its_result_and_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", SMALL, "--k", str(K), "--repeat", "1", "--out", str(tmp_path)]
    assert bench_emulator.main(options) == 0
    text = (tmp_path / "emulator.md").read_text()
    assert f"`python -m scripts.bench_emulator {' '.join(options)}`" in text
    assert "| 16 | checks and counters |" in text
    data = json.loads((tmp_path / "emulator.json").read_text())
    assert data["speeds"]["16"]["neither"]["warp_instructions"] > 16 * MMAS
    assert {"date", "machine", "git revision"} < set(data["provenance"])
    assert "One CTA with everything on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--repeat", "0"], "--repeat must be 1 or more"),
        (["--config", "128"], "'128' is no grouped_gemm config"),
        (["--k", "12"], "K=12 is not a multiple of 8"),
        (["--config", SMALL.replace("_k1", "_k2")], "splits"),
    ],
)
def test_bad_input_of_the_benchmark_is_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_emulator.main([*options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def plain(tile: str) -> GroupedGemmConfig:
    return GroupedGemmConfig.parse(f"{tile}_s1_none_f32_r1x8_mn_ca_o1_g1_k1")


# Rows of 64 bytes start at 2 of 8 chunk columns, rows of 256 at one: 3 and 7 more wavefronts for
# each. Eight more halves move every row to a column of its own; a pair of rows that is stored at
# once then shares one. A swizzle on B bits spreads the rows over 2**B times as many columns, if it
# is rows whose bits it reads: those of 256 bytes begin at bit 7.
RATES = {
    "16x32x32_w1x1x1": {"none": (3, 0), "pad8": (0, 1), "sw1.3.3": (1, 0), "sw2.3.3": (0, 0)},
    "16x32x128_w1x1x4": {
        "none": (7, 0), "pad8": (0, 0), "sw1.3.3": (7, 0), "sw2.3.3": (3, 0), "sw3.3.3": (1, 0),
        "sw3.3.4": (0, 0),
    },
}  # fmt: skip


@pytest.mark.parametrize("tile", RATES)
def test_conflicts_are_those_that_one_can_work_out_and_those_predicted(tile: str) -> None:
    shape = plain(tile)
    found = count(layouts_of(shape))
    rates = {
        GroupedGemmConfig.parse(one.config).smem: (one.loads.rate, one.stores.rate) for one in found
    }
    assert rates == RATES[tile]
    assert all(one.agree for one in found)
    matrices = shape.warps_k * (16 + 32) // 8
    assert {one.loads.needed for one in found} == {matrices}
    assert {one.shape for one in found} == {f"{tile}_x8_mn"}


def test_a_prediction_that_is_off_is_told() -> None:
    [right] = count([plain("16x32x32_w1x1x1")])
    wrong = replace(right, predicted_stores=1.0)
    assert not wrong.agree
    assert "of all of them, exactly" in "\n".join(body([right]))
    assert f"not of {right.config}" in "\n".join(body([right, wrong]))


def test_shapes_cover_the_space() -> None:
    shapes = shapes_of_the_space()
    values = {p.name: set(p.values) for p in space_for("grouped_gemm").parameters}
    for name in set(values) - set(FIXED) - {"smem"}:
        assert {getattr(shape, name) for shape in shapes} == values[name], name
    layouts = {config.smem for shape in shapes for config in layouts_of(shape)}
    assert layouts == values["smem"]
    assert len({shape_name(shape) for shape in shapes}) == len(shapes)


def test_a_shape_of_no_class_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert count_swizzles.main(["--only", "1x1x1_w1x1x1_x8_mn"]) == 2
    assert "--only 1x1x1_w1x1x1_x8_mn: no shape of a class" in capsys.readouterr().err


def test_the_tables_of_the_documentation_are_the_measured_ones() -> None:
    measured = (ROOT / "docs/results/swizzles.md").read_text().splitlines()
    told = (ROOT / "docs/kernels.md").read_text().splitlines()
    start = told.index("| tile_k | none | pad8 | sw1.3.3 | sw2.3.3 | sw3.3.3 | sw3.3.4 |")
    rows = [line for line in told[start:] if line.startswith("|") and " + " in line]
    assert len(rows) > 8
    assert [row for row in rows if row not in measured] == []
