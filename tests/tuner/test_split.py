"""Regret at the edges of buckets: found, told, and a bucket of its own where it is too much."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Bucket, UserError
from tests.tuner.cli import search
from tests.tuner.recordings import GPU, SMALL, recorded_configs
from tuner.options import parse_options
from tuner.recording import RecordedTrial, Recording, Tables
from tuner.search import main
from tuning_db import TrialStatus, TuningDB
from tuning_db.selection import select
from tuning_db.tunings import Tunings

Curve = Callable[[float], float]
DEFAULT, FEW, MIDDLE, MANY, *_ = (str(config) for config in recorded_configs(6))
SIZES = [0.25 * i for i in range(1, 130)]  # every whole number of tokens up to 32 per expert
ARGUMENTS = ("--trials", "4", "--sampler", "exhaustive", "--json", "--seed", "1")


def curves(middle: Curve) -> dict[str, Curve]:
    """FEW is best below 8 tokens per expert and MANY above; the default never is."""
    return {
        DEFAULT: lambda n: 400 + 20 * n,
        FEW: lambda n: 80 + 10 * n,
        MANY: lambda n: 120 + 5 * n,
        MIDDLE: middle,
    }


def record(
    folder: Path, times: dict[str, Curve], *, wrong: tuple[str, float] | None = None
) -> None:
    """A recording of SMALL that knows each config everywhere; ``wrong`` fails at one size."""
    tables: Tables = {}
    for size in SIZES:
        rows = {c: RecordedTrial(TrialStatus.OK, f(size), 0.1, 1e-4) for c, f in times.items()}
        if wrong is not None and wrong[1] == size:
            rows[wrong[0]] = RecordedTrial(TrialStatus.WRONG_RESULT, rel_error=0.5)
        tables[SMALL, Bucket(size)] = rows
    Recording(GPU.name, "made up", "2025-01-01T00:00:00", {}, tables).save(folder / "r.gz")


def run(folder: Path, *more: str) -> dict[str, Any]:
    """A search of the recording in this process: a new one takes seconds to import torch."""
    files = ("--replay", str(folder / "r.gz"), "--db", str(folder / "tuning.sqlite"))
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert main([*files, *ARGUMENTS, *more]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def count_trials(folder: Path) -> int:
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        buckets = db.buckets(SMALL, GPU.name)
        return sum(len(db.trials(SMALL, bucket, GPU.name)) for bucket in buckets)


def winners(folder: Path) -> dict[float, str]:
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        return {w.bucket.tokens_per_expert: w.trial.config for w in db.winners(GPU.name)}


def peak(n: float) -> float:
    """Best around 8 tokens per expert, and nowhere near 2 or 32."""
    return 120 + 100 * abs(math.log2(n / 8))


def flat(n: float) -> float:
    """Never best."""
    return 500 + 20 * n


def losses(document: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    """(bucket, point) -> regret in percent, to 0.1; None where the winner fails."""
    return {
        (r["bucket"], r["point"]): None if r["regret"] is None else round(100 * r["regret"], 1)
        for r in document["regrets"]
    }


def test_a_planted_regret_is_found_and_split(tmp_path: Path) -> None:
    record(tmp_path, curves(peak))
    document = run(tmp_path, "--buckets", "2,32", "--split", "3")
    assert winners(tmp_path) == {
        2: FEW, 4: FEW, 5.75: FEW, 8: MIDDLE, 11.25: MIDDLE, 16: MANY, 32: MANY
    }  # fmt: skip
    found = losses(document)
    assert found["2@uniform", "8@uniform"] == found["32@uniform", "8@uniform"] == 33.3
    assert found["8@uniform", "16@uniform"] == 10.0
    assert found["2@uniform", "2.75@uniform"] == found["16@uniform", "22.75@uniform"] == 0.0
    assert [p["bucket"] for p in document["places"]] == [
        f"{size:g}@uniform" for size in winners(tmp_path)
    ]
    split = {r["point"]: r["split"] for r in document["regrets"] if r["where"] != "middle"}
    assert [point for point, is_split in split.items() if not is_split] == [
        "2.75@uniform", "22.75@uniform"
    ]  # fmt: skip


def test_what_is_split_bounds_what_is_lost_everywhere(tmp_path: Path) -> None:
    """What the engine picks between 2 and 32, against the best of all at each size."""
    times = curves(peak)
    record(tmp_path, times)
    lost = []
    for more in ((), ("--split", "3", "--resume")):
        run(tmp_path, "--buckets", "2,32", *more)
        tuning = Tunings(tmp_path / "tuning.sqlite", GPU).of_shape(SMALL)
        worst = 0.0
        for size in (size for size in SIZES if 2 <= size <= 32):
            choice = select(tuning.buckets, Bucket(size).rows(SMALL), tuning.default)
            best = min(curve(size) for curve in times.values())
            worst = max(worst, times[choice.config](size) / best - 1)
        lost.append(worst)
    assert lost[0] > 0.3
    assert lost[1] < 0.1


def test_nothing_is_split_where_winners_agree(tmp_path: Path) -> None:
    """One config is best everywhere: its edges are measured once and lose nothing."""
    record(tmp_path, curves(lambda n: 50 + n))
    document = run(tmp_path, "--buckets", "2,8,32", "--split", "3")
    assert winners(tmp_path) == dict.fromkeys((2, 8, 32), MIDDLE)
    assert set(losses(document).values()) == {0.0}
    edges = [r["point"] for r in document["regrets"] if r["where"] != "middle"]
    assert edges == ["4@uniform", "4@uniform", "16@uniform", "16@uniform"]
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        configs = [trial.config for trial in db.trials(SMALL, Bucket(4.0), GPU.name)]
    assert len(configs) == len(set(configs)), "both buckets share one final"


def test_the_limit_is_what_was_asked_for(tmp_path: Path) -> None:
    record(tmp_path, curves(peak))
    document = run(tmp_path, "--buckets", "2,32", "--split", "40")
    assert winners(tmp_path).keys() == {2, 32}
    assert losses(document)["2@uniform", "8@uniform"] == 33.3


def test_what_selection_takes_between_two_buckets_is_judged_too(tmp_path: Path) -> None:
    """It interpolates: 200 us for FEW and 191 for MANY at 8, where MIDDLE takes 120."""
    record(tmp_path, {**curves(peak), MANY: lambda n: 130 + 4 * n})
    document = run(tmp_path, "--buckets", "2,32", "--split", "40")
    (at_edge,) = {r["selected_regret"] for r in document["regrets"] if r["where"] != "middle"}
    assert at_edge == pytest.approx((130 + 4 * 8) / 120 - 1)


def test_a_winner_that_fails_at_an_edge_is_a_reason_to_split(tmp_path: Path) -> None:
    times = {name: curve for name, curve in curves(flat).items() if name != MIDDLE}
    record(tmp_path, times, wrong=(FEW, 8.0))
    document = run(tmp_path, "--buckets", "2,32", "--split", "3")
    assert losses(document)["2@uniform", "8@uniform"] is None
    assert winners(tmp_path)[8] == MANY


def test_resuming_holds_no_final_twice(tmp_path: Path) -> None:
    record(tmp_path, curves(peak))
    arguments = ("--buckets", "2,32", "--split", "3")
    first = run(tmp_path, *arguments)
    before = count_trials(tmp_path)
    again = run(tmp_path, *arguments, "--resume")
    assert count_trials(tmp_path) == before
    assert again["regrets"] == first["regrets"]


def test_a_new_run_judges_edges_afresh_and_keeps_the_buckets_there_are(tmp_path: Path) -> None:
    record(tmp_path, curves(peak))
    run(tmp_path, "--buckets", "2,32", "--split", "3")
    before, sizes = count_trials(tmp_path), winners(tmp_path).keys()
    record(tmp_path, curves(lambda n: 50 + n))
    document = run(tmp_path, "--buckets", "2,32", "--split", "3")
    assert count_trials(tmp_path) > before
    assert winners(tmp_path) == dict.fromkeys(sizes, MIDDLE)
    assert set(losses(document).values()) == {0.0}


def test_splitting_is_for_thorough_measurements_unless_asked_for(tmp_path: Path) -> None:
    def above(*arguments: str, measured: bool) -> float | None:
        return parse_options(arguments).splits_above(measured=measured)

    assert above(measured=True) is above("--effort", "full", measured=False) is None
    assert above("--effort", "full", measured=True) == 0.03
    assert above("--effort", "full", "--split", "0", measured=True) is None
    assert above("--split", "1.5", measured=False) == 0.015
    for bad in ("-1", "nan", "1001"):
        with pytest.raises(UserError, match=f"--split {bad}: must lie in 0..1000 percent"):
            parse_options([f"--split={bad}"])
    record(tmp_path, curves(peak))
    assert run(tmp_path, "--buckets", "2,32")["regrets"] == []


def test_a_card_that_is_not_here_is_split_by_prediction(tmp_path: Path) -> None:
    """Real kernels, built; the cost model says what they lose at the edge."""
    result = search(
        tmp_path, "--shape", "E=4,N=256,K=256,top_k=2", "--gpu", "RTX 2080 Ti", "--buckets",
        "1,1024", "--trials", "3", "--check", "none", "--split", "0.0001", "--json", "--seed", "3",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    edges = [r for r in document["regrets"] if r["where"] != "middle"]
    assert {"1@uniform", "1024@uniform"} <= {r["bucket"] for r in edges}
    assert {r["source"] for r in edges} == {"predicted"}
    for edge in edges:
        assert edge["time_us"] >= edge["best_us"]
        lossy = [e for e in edges if e["point"] == edge["point"] and e["regret"] > 1e-6]
        assert edge["split"] == bool(lossy)
    assert len(document["places"]) == 2 + len({e["point"] for e in edges if e["split"]})
