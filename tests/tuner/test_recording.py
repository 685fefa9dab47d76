"""Recordings: what is written comes back, and files that are no recordings are refused."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from search_spaces import Bucket, UserError, find_gpu, space_for
from search_spaces.models import load_model
from tests.tuner.cli import search
from tuner.recording import RecordedTrial, Recording, Tables, Trials
from tuning_db.records import TrialStatus

PROBLEM = load_model("olmoe-1b-7b").problem("down")
SPACE = space_for("grouped_gemm")
NAMES = [str(c) for c in islice(SPACE.view(PROBLEM, find_gpu("T4")), 40)]


def trials(first: int, count: int) -> Trials:
    found: Trials = {}
    for i, name in enumerate(NAMES[first : first + count]):
        if i % 7 == 3:
            found[name] = RecordedTrial(TrialStatus.WRONG_RESULT, rel_error=0.5 + i)
        elif i % 7 == 5:
            found[name] = RecordedTrial(TrialStatus.LAUNCH_ERROR)
        else:
            found[name] = RecordedTrial(TrialStatus.OK, 10.5 + i, 0.125, 2.5e-4)
    return found


@pytest.fixture
def recording() -> Recording:
    tables: Tables = {
        (PROBLEM, Bucket.parse("16")): trials(0, 30),
        (PROBLEM, Bucket.parse("0.125@zipf:1.2")): trials(10, 30),
    }
    return Recording(
        "H100", "record --minutes 5", "2026-01-02", {"torch": "2.11"}, tables, {"tile_m": [8, 16]}
    )


def test_round_trip(recording: Recording, tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "r.json.gz"
    recording.save(file)
    assert Recording.load(file) == recording
    assert [p.name for p in file.parent.iterdir()] == ["r.json.gz"]
    loaded = Recording.load(file)
    for key, expected in recording.trials.items():
        assert list(loaded.trials[key]) == list(expected), "the order of trials is kept"
    assert {problem.label for problem, _ in loaded.trials} == {"olmoe-1b-7b/down"}


def test_equal_recordings_are_equal_files(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "a")
    recording.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_infinite_error_is_still_standard_json(recording: Recording, tmp_path: Path) -> None:
    bad: Trials = {NAMES[0]: RecordedTrial(TrialStatus.WRONG_RESULT, rel_error=math.inf)}
    key = (PROBLEM, Bucket.parse("1"))
    replace(recording, trials={key: bad}).save(tmp_path / "r")
    json.loads(gzip.decompress((tmp_path / "r").read_bytes()), parse_constant=pytest.fail)
    trial = Recording.load(tmp_path / "r").trials[key][NAMES[0]]
    assert trial == RecordedTrial(TrialStatus.WRONG_RESULT)


def test_a_thousand_configs_in_two_buckets_stay_small(recording: Recording, tmp_path: Path) -> None:
    view = SPACE.view(PROBLEM, find_gpu("H100"))
    names = [str(view.at(i * (view.count // 1000))) for i in range(1000)]
    tables: Tables = {
        (PROBLEM, Bucket.parse(bucket)): {
            name: RecordedTrial(TrialStatus.OK, 100 + math.pi * i, math.e / (i + 1), 1e-4 / (i + 3))
            for i, name in enumerate(names)
        }
        for bucket in ("16", "256")
    }
    replace(recording, trials=tables).save(tmp_path / "r")
    assert (tmp_path / "r").stat().st_size <= 300_000


def rewrite(file: Path, **changes: object) -> None:
    document = json.loads(gzip.decompress(file.read_bytes()))
    document.update(changes)
    file.write_bytes(gzip.compress(json.dumps(document).encode()))


def test_another_schema_is_refused(recording: Recording, tmp_path: Path) -> None:
    file = tmp_path / "r"
    recording.save(file)
    rewrite(file, schema=2)
    with pytest.raises(UserError, match=r"schema 2, this version reads 1.*record it again"):
        Recording.load(file)


@pytest.mark.parametrize("changes", [{"tables": [{"problem": "x"}]}, {"configs": []}])
def test_damage_is_refused(
    recording: Recording, tmp_path: Path, changes: dict[str, object]
) -> None:
    file = tmp_path / "r"
    recording.save(file)
    rewrite(file, **changes)
    with pytest.raises(UserError, match="is damaged"):
        Recording.load(file)


# Not the bytes themselves: gzip puts the time into them, and every worker must name tests alike.
@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
@pytest.mark.parametrize("packed", [True, False])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, packed: bool) -> None:
    file = tmp_path / "r"
    file.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match="recording"):
        Recording.load(file)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").touch()
    with pytest.raises(UserError, match="recording"):
        Recording.load(tmp_path / "r")


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: d[:40] + b"?????" + d[45:]])
def test_a_broken_file_is_refused(
    recording: Recording, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    recording.save(tmp_path / "r")
    (tmp_path / "r").write_bytes(damage((tmp_path / "r").read_bytes()))
    with pytest.raises(UserError, match="no recording"):
        Recording.load(tmp_path / "r")


def test_a_missing_file_and_an_impossible_place(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Recording.load(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        recording.save(tmp_path / "file" / "r")


def test_gates_are_recorded_and_replayed(recording: Recording, tmp_path: Path) -> None:
    gate, bucket = load_model("qwen3-30b-a3b").gate(), Bucket.parse("16")
    names = ("mma32x128x64_w1x4x1_s2_te_k1_l8_pass", "fma8x16x256_w1x4x1_s1_te_k1_l8_pass")
    tried = {
        name: RecordedTrial(TrialStatus.OK, 9.5 + i, 0.25, 1e-7) for i, name in enumerate(names)
    }
    tables: Tables = {**recording.trials, (gate, bucket): tried}
    replace(recording, trials=tables).save(tmp_path / "r")
    loaded = Recording.load(tmp_path / "r")
    assert loaded.trials == tables
    assert {problem.label for problem, _ in loaded.trials} == {PROBLEM.label, gate.label}
    result = search(tmp_path, "--replay", str(tmp_path / "r"), "--json", "--sampler", "random")
    assert result.returncode == 0, result.stderr
    *_, place = json.loads(result.stdout)["places"]
    assert place["problem"] == str(gate)
    assert (place["winner"]["config"], place["winner"]["time_us"]) == (names[0], 9.5)
