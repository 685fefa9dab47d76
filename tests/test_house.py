"""The house rules of docs/design.md: who may import whom, how long a file may be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Package -> the packages below it. An import points down, never up, and never sideways.
FLOORS: dict[str, set[str]] = {
    "search_spaces": set(),
    "templates": {"search_spaces"},
    "tuning_db": {"search_spaces"},
    "tuner": {"search_spaces", "templates", "tuning_db"},
    "engine": {"search_spaces", "templates", "tuning_db"},
}
PACKAGES = tuple(FLOORS)
# Nothing may import these two, and they may import everything.
OUTSIDE = ("scripts", "tests")
GPU_LIBRARIES = {"cuda", "cupy", "cupy_backends", "pynvml", "torch", "triton"}
GPU_FREE = ("search_spaces", "tuning_db")

SOURCE_SUFFIXES = {"", ".py", ".cuh", ".hpp", ".jinja", ".mako", ".sh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".toml", ".yaml", ".yml", ".json", ".ini", ".csv"}
NAMED_FILES = ("Makefile", ".ci/run", ".gitignore", ".pre-commit-config.yaml", "LICENSE")
MAX_LINES = 500
MAX_INIT_LINES = 60
MAX_FUNCTION_LINES = 60
# A path of the machine something was written on says nothing to any other reader.
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|root|home|Users|mnt)/[\w.]")


def project_files(suffixes: set[str]) -> list[Path]:
    """Files of the project with these suffixes, wherever; `""` stands for NAMED_FILES."""
    folders = (*PACKAGES, *OUTSIDE, "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")] + [*ROOT.glob("*")]
    wanted = [path for path in found if path.suffix in suffixes - {""}]
    wanted += [ROOT / name for name in NAMED_FILES if "" in suffixes]
    return sorted(path for path in wanted if path.is_file() and "__pycache__" not in path.parts)


def modules(folder: str) -> list[Path]:
    return [path for path in project_files({".py"}) if path.relative_to(ROOT).parts[0] == folder]


def imported_names(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute dotted names of all that a module imports, wherever in the file it does so.

    `package` is the module's own package, for relative imports. Names handed to
    importlib.import_module as literals count too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and node.args:
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value)


def imported_packages(path: Path) -> set[str]:
    package = path.relative_to(ROOT).parent.parts
    return {name.split(".")[0] for name in imported_names(path.read_text(), package)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down(package: str) -> None:
    assert modules(package), f"{package} has no modules"
    forbidden = {*PACKAGES, *OUTSIDE} - FLOORS[package] - {package}
    wrong = {
        str(path.relative_to(ROOT)): sorted(imported_packages(path) & forbidden)
        for path in modules(package)
    }
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", GPU_FREE)
def test_low_floors_know_no_gpu_library(package: str) -> None:
    wrong = [path for path in modules(package) if imported_packages(path) & GPU_LIBRARIES]
    assert wrong == []


def test_search_spaces_are_plain_python() -> None:
    allowed = {*sys.stdlib_module_names, "search_spaces", "pycute"}
    imports = {path.name: imported_packages(path) - allowed for path in modules("search_spaces")}
    assert {name: packages for name, packages in imports.items() if packages} == {}


def test_import_finder_sees_every_kind_of_import() -> None:
    source = """
import a.b, c as d
from e.f import g
def late():
    from .h import i
    from ..j import k
    from .. import l
    importlib.import_module("m.n")
"""
    names = set(imported_names(source, ("top", "sub")))
    assert names == {"a.b", "c", "e.f", "top.sub.h", "top.j", "top", "m.n"}


def test_every_module_imports_without_a_gpu() -> None:
    """One process imports them all, with every GPU hidden."""
    names = []
    for path in (path for package in PACKAGES for path in modules(package)):
        parts = path.relative_to(ROOT).with_suffix("").parts
        # __main__ modules run when imported, and Alembic alone can load its environment.
        if parts[-1] != "__main__" and "migrations" not in parts:
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    subprocess.run(
        [sys.executable, "-c", code, *names],
        check=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_package_front_door_is_one_screen(package: str) -> None:
    text = (ROOT / package / "__init__.py").read_text()
    assert ast.get_docstring(ast.parse(text)), f"{package} does not say what it is"
    assert len(text.splitlines()) <= MAX_INIT_LINES
    assert (ROOT / package / "py.typed").exists()


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in project_files(SOURCE_SUFFIXES)}
    assert lengths, "found no files at all"
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_functions_fit_a_screen() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0)
        - node.lineno
        + 1
        for path in project_files({".py"})
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert lengths, "found no functions at all"
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_no_file_names_a_machine_path() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in project_files(TEXT_SUFFIXES)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert hits == []


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("see " + "/ho" + "me/someone/x", True),
        ("'/wo" + "rk/main'", True),
        ("docs/home/page", False),
        ("https://example.org/home/page", False),
        ("A/work/B", False),
    ],
)
def test_machine_path_pattern(line: str, hit: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is hit
