"""The project around the code: make, packaging, and documents that match what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT
from tests.test_house import OUTSIDE, PACKAGES

SETUPTOOLS = 77  # the first that reads `license = "Apache-2.0"`; pyproject.toml asks for it


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Without these a make that runs this test would pass its own flags and job server on.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def project_version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_make_alone_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0, done.stderr
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^  make {target} +\S", done.stdout, re.MULTILINE), target


def fresh_checkout(tmp_path: Path) -> Path:
    """Makefile and pyproject.toml alone, with a .venv whose Python only notes down its calls."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)
    bin_dir = tmp_path / ".venv/bin"
    bin_dir.mkdir(parents=True)
    for name in ("python", "pip"):
        (bin_dir / name).write_text('#!/bin/sh\necho "$@" >> calls\n')
        (bin_dir / name).chmod(0o755)
    return tmp_path


def test_a_second_make_installs_nothing(tmp_path: Path) -> None:
    checkout = fresh_checkout(tmp_path)
    calls = checkout / "calls"
    for _ in range(2):
        assert make("setup", cwd=checkout).returncode == 0
    assert make("search", "ARGS=--seed 1", cwd=checkout).returncode == 0
    assert calls.read_text().splitlines() == [
        "-m pip install --editable .[dev]",
        "-m tuner.search --op grouped_gemm --seed 1",
    ]
    later = (checkout / ".venv/.installed").stat().st_mtime + 1
    os.utime(checkout / "pyproject.toml", (later, later))
    assert make("setup", cwd=checkout).returncode == 0
    assert calls.read_text().count("pip install") == 2, "a changed pyproject.toml installs again"


def test_make_names_a_python_that_is_too_old(tmp_path: Path) -> None:
    checkout = fresh_checkout(tmp_path)
    old = checkout / "python3.9"
    # The real interpreter, which is told to be an old one before it runs the Makefile's check.
    lie = "import sys; sys.version_info = (3, 9, 0); sys.version = '3.9.0 (old)'"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{lie}\nexec(sys.argv[1])" "$2"\n')
    old.chmod(0o755)
    done = make("setup", f"PYTHON={old}", cwd=checkout)
    assert done.returncode != 0
    assert "error: Light-MoE needs Python 3.10 or newer, this is 3.9.0" in done.stderr
    assert not (checkout / "calls").exists()


def shipped_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    if int(version("setuptools").split(".")[0]) < SETUPTOOLS:
        pytest.skip(f"left out: setuptools >= {SETUPTOOLS} is needed: pip install -e '.[dev]'")
    source = tmp_path / "source"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--quiet", "--wheel-dir", tmp_path, source], check=True)
    [wheel] = tmp_path.glob("light_moe-*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


def test_changelog_names_the_version() -> None:
    assert f"## {project_version()} " in (ROOT / "CHANGELOG.md").read_text()


def test_readme_file_tree_is_the_project() -> None:
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"^## What is where\n+```\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert tree
    paths = [line.split()[0] for line in tree[1].splitlines() if line.strip()]
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert missing == []
    assert {*PACKAGES, *OUTSIDE, "docs"} <= {path.rstrip("/") for path in paths}


def test_readme_lists_the_flags_of_search() -> None:
    rows = re.findall(r"^\| (`--.*?) \| ", (ROOT / "README.md").read_text(), re.MULTILINE)
    told = {flag for row in rows for flag in re.findall(r"`(--[a-z]+)", row)}
    command = [sys.executable, "-m", "tuner.search", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told == set(re.findall(r"^  (?:-\w, )?(--[a-z]+)", shown, re.MULTILINE)) - {"--help"}


def test_documents_link_to_files_that_exist() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("script", [".ci/run", "scripts/gpu_check.sh"])
def test_shell_scripts_parse_and_can_be_started(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert os.access(ROOT / script, os.X_OK)
