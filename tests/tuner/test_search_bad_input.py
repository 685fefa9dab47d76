"""Bad input: one line on stderr, exit status 2, nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from pathlib import Path

import pytest

from search_spaces import UserError
from tests.tuner.cli import error_line, search
from tests.tuner.recordings import write_recording
from tuner.options import parse_options
from tuner.plan import make_plan

SHAPE = "E=8,N=512,K=512,top_k=2"

COMMANDS = {
    "op": (["--op", "grouped_gem"], "unknown op 'grouped_gem' (did you mean grouped_gemm?)"),
    "model": (["--model", "mixtral-8x7"], "unknown model 'mixtral-8x7'"),
    "layer": (["--layer", "gateup"], "unknown layer 'gateup' (did you mean gate_up?)"),
    "sampler": (["--sampler", "tpee"], "did you mean tpe?): choose one of tpe, random"),
    "K": (["--shape", "E=8,N=512,K=516,top_k=2"], "K=516 is not a multiple of 8"),
    "N": (["--shape", "E=8,N=500,K=512,top_k=2"], "N=500 is not a multiple of 8"),
    "empty shape": (["--shape", ""], "empty shape"),
    "shape": (["--shape", "E=8,N=512"], "lacks K, top_k"),
    "empty buckets": (["--buckets", ""], "--buckets ''"),
    "buckets": (["--buckets", "1,,4"], "--buckets '1,,4'"),
    "architecture": (["--arch", "sm_57"], "unknown architecture 'sm_57': choose one of sm_75"),
    "gpus": (["--gpus", "7"], "no usable GPU"),
    "flag": (["--bucket", "1"], "unknown option '--bucket' (did you mean --buckets?)"),
    "DB folder": (["--shape", SHAPE, "--db", "nowhere/t.sqlite"], "there is no directory"),
    "resume without DB": (["--resume", "--shape", SHAPE], "there is no tuning DB at"),
}

OPTIONS = {
    "model folder": (["--model", str(Path(__file__).parent)], "has no config.json"),
    "effort": (["--effort", "ful"], "unknown effort 'ful' (did you mean full?)"),
    "numerics": (["--numerics", "fp8"], "unknown numerics 'fp8'"),
    "epilogue": (["--epilogue", "swigl"], "unknown epilogue 'swigl' (did you mean swiglu?)"),
    "epilogue of down": (["--layer", "down", "--epilogue", "swiglu"], "go with gate_up"),
    "gather for down": (["--layer", "down", "--gather"], "go with gate_up"),
    "combine": (["--combine", "order"], "unknown combine 'order' (did you mean ordered?)"),
    "combine for gate_up": (["--layer", "gate_up", "--combine", "any"], "goes with layer down"),
    "combine and gate": (
        ["--shape", SHAPE, "--combine", "any", "--epilogue", "geglu"],
        "combine does not go with epilogue geglu",
    ),
    "combine a gate": (["--op", "fused_gate", "--combine", "any"], "--combine does not go with"),
    "combine a recording": (["--replay", "r.json.gz", "--combine", "any"], "does not"),
    "gated N": (
        ["--shape", "E=8,N=520,K=512,top_k=2", "--epilogue", "geglu"],
        "N=520 with epilogue geglu is not a multiple of 16",
    ),
    "gather a recording": (["--replay", "r.json.gz", "--gather"], "recording r.json.gz does not"),
    "tier": (["--tier", "sm_90a"], "unknown tier 'sm_90a'"),
    "shape and layer": (["--shape", SHAPE, "--layer", "down"], "--layer goes with --model"),
    "bucket": (["--buckets", "one"], "bucket 'one'"),
    "bucket with a skew": (["--buckets", "16@zipf:1"], "--buckets '16@zipf:1'"),
    "tiny bucket": (["--buckets", "0.1"], "bucket 0.1 is less than one token"),
    "skew": (["--skew", "zip:2"], "skew 'zip:2'"),
    "gpu": (["--gpu", "RTX 2080"], "unknown GPU 'RTX 2080': known without hardware are"),
    "gpu list": (["--gpus", "first"], "--gpus 'first': expected device numbers"),
    "two targets": (["--gpu", "T4", "--arch", "sm_75"], "not allowed with"),
    "trials": (["--trials", "0"], "--trials: 0 is not a whole number, 1 or more"),
    "trials text": (["--trials", "few"], "--trials: 'few' is not a whole number"),
    "minutes": (["--minutes", "-1"], "--minutes -1: must be above 0"),
    "minutes nan": (["--minutes", "nan"], "--minutes nan: must be above 0"),
    "seed": (["--seed", "-3"], "--seed: -3 is not a whole number 0.."),
    "seed too large": (["--seed", str(1 << 63)], "is not a whole number 0..9223372036854775807"),
    "empty model": (["--model", ""], "unknown model ''"),
    "endless minutes": (["--minutes", "inf"], "--minutes inf: must be above 0 and at most"),
    "db name": (["--shape", SHAPE, "--db", "x" * 300], "File name too long"),
    "db kind": (["--shape", SHAPE, "--db", "foo://x"], "there is no kind of database 'foo'"),
    "workers": (["--workers", "0"], "--workers: 0 is not a whole number, 1 or more"),
    "config": (["--config", "128x128"], "'128x128' is no grouped_gemm config"),
    "invalid config": (
        ["--config", "128x128x32_w2x2x1_s2_sw2.3.3_f16_r2x8_mn_ca_o1_g8_k1"],
        "acc=f16 is not allowed with promoted numerics",
    ),
    "recording predictions": (
        ["--gpu", "T4", "--record", "r.json.gz"],
        "--record needs one measured GPU model",
    ),
    "no recording": (["--replay", "none.json.gz"], "recording none.json.gz does not exist"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_so_in_one_line_and_leaves_nothing_behind(
    name: str, tmp_path: Path
) -> None:
    arguments, expected = COMMANDS[name]
    assert expected in error_line(search(tmp_path, *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_option_is_refused_before_anything_starts(name: str) -> None:
    arguments, expected = OPTIONS[name]
    with pytest.raises(UserError) as refused:
        make_plan(parse_options(arguments))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recording_of_another_schema(tmp_path: Path) -> None:
    file = tmp_path / "old.json.gz"
    file.write_bytes(gzip.compress(json.dumps({"schema": 0}).encode()))
    assert "recording schema 0" in error_line(search(tmp_path, "--replay", file.name))
    assert list(tmp_path.iterdir()) == [file]


def test_a_replay_has_its_own_problems(tmp_path: Path) -> None:
    file = str(write_recording(tmp_path / "r.json.gz", 20))
    with pytest.raises(UserError, match="--shape does not go with --replay"):
        make_plan(parse_options(["--replay", file, "--shape", SHAPE]))
    with pytest.raises(UserError, match="no trials of bucket 3: it has 1@uniform, 64@uniform"):
        make_plan(parse_options(["--replay", file, "--buckets", "3"]))


def test_a_db_that_is_no_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes\n" * 50)
    before = file.read_bytes()
    result = search(tmp_path, "--shape", SHAPE, "--trials", "1", "--db", file.name)
    assert "is no SQLite file" in error_line(result)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_locked_db_and_one_from_a_newer_version(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.json.gz", 10)
    arguments = ("--replay", "r.json.gz", "--trials", "1", "--buckets", "1")
    assert search(tmp_path, *arguments).returncode == 0
    file = tmp_path / "tuning.sqlite"
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    locked = search(tmp_path, *arguments, "--db", f"sqlite:///{file}?timeout=0.2")
    holder.execute("ROLLBACK")
    assert "is locked" in error_line(locked)
    holder.execute("UPDATE light_moe_version SET version_num = '9999'")
    holder.close()
    assert "has schema 9999, newer than" in error_line(search(tmp_path, *arguments))


def test_missing_headers_name_the_package(tmp_path: Path) -> None:
    """A Python path on which cutlass_library holds no headers."""
    hidden = tmp_path / "path"
    (hidden / "cutlass_library").mkdir(parents=True)
    (hidden / "cutlass_library" / "__init__.py").touch()
    path = os.pathsep.join([str(hidden), os.environ["PYTHONPATH"]])
    result = search(tmp_path, "--shape", SHAPE, "--trials", "1", PYTHONPATH=path)
    assert "nvidia-cutlass" in error_line(result)
    assert list(tmp_path.iterdir()) == [hidden]


def test_a_kernel_cache_that_cannot_be_written(tmp_path: Path) -> None:
    arguments = ("--shape", SHAPE, "--trials", "1", "--buckets", "1")
    result = search(tmp_path, *arguments, LIGHT_MOE_CACHE="/dev/full/cache")
    assert "kernel cache" in error_line(result)
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_cache_that_fails_in_the_middle(tmp_path: Path) -> None:
    """As on a full disk: what was begun is marked as failed, and can be resumed."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kernels").touch()  # where a folder belongs
    arguments = ("--shape", SHAPE, "--trials", "1", "--buckets", "1")
    result = search(tmp_path, *arguments, LIGHT_MOE_CACHE=str(tmp_path / "cache"))
    assert "kernel cache" in error_line(result)
    with sqlite3.connect(tmp_path / "tuning.sqlite") as db:
        assert db.execute("SELECT status FROM run").fetchall() == [("failed",)]
        assert db.execute("SELECT count(*) FROM trial").fetchall() == [(0,)]
