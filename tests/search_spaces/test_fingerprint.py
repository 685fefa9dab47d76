"""A template's fingerprint follows what its op is made from, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from search_spaces import UserError, fingerprint
from templates import ops

OWN = "#include <light_moe/{0}.cuh>\n"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two ops: ``one`` includes a.cuh, that b.cuh; ``two`` includes c.cuh; both include both."""
    include = tmp_path / "include" / "light_moe"
    include.mkdir(parents=True)
    files = {
        "one.py": 'HEADERS = ("#include <light_moe/a.cuh>",)\n',
        "one.cu.jinja": OWN.format("both"),
        "two.py": 'HEADERS = ("#include <light_moe/c.cuh>",)\n',
        "two.cu.jinja": OWN.format("both"),
        "filled.py": "",
        "literal.py": "",
        "options.py": "",
        "include/light_moe/a.cuh": "#pragma once\n#include <cute/tensor.hpp>\n" + OWN.format("b"),
        "include/light_moe/b.cuh": OWN.format("a"),  # a circle, as guards allow
        "include/light_moe/c.cuh": "",
        "include/light_moe/both.cuh": "",
        "include/light_moe/nobody.cuh": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    origin = str(tmp_path / "__init__.py")
    spec = ModuleSpec("templates", None, origin=origin)
    monkeypatch.setattr(fingerprint, "find_spec", lambda name: spec)
    fingerprint.template_fingerprint.cache_clear()
    yield tmp_path
    fingerprint.template_fingerprint.cache_clear()


def both() -> tuple[str, str]:
    fingerprint.template_fingerprint.cache_clear()
    return fingerprint.template_fingerprint("one"), fingerprint.template_fingerprint("two")


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("include/light_moe/a.cuh", (True, False)),
        ("include/light_moe/b.cuh", (True, False)),
        ("include/light_moe/c.cuh", (False, True)),
        ("include/light_moe/both.cuh", (True, True)),
        ("include/light_moe/nobody.cuh", (False, False)),
        ("one.cu.jinja", (True, False)),
        ("two.py", (False, True)),
        ("filled.py", (True, True)),
        ("literal.py", (True, True)),
        ("options.py", (True, True)),
    ],
)
def test_a_change_makes_stale_what_includes_it(
    changed: str, stale: tuple[bool, bool], templates: Path
) -> None:
    before = both()
    with (templates / changed).open("a") as file:
        file.write("// changed\n")
    assert tuple(old != new for old, new in zip(before, both(), strict=True)) == stale


def test_the_place_of_the_files_does_not_matter(
    templates: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = both()
    copy = tmp_path_factory.mktemp("elsewhere") / "templates"
    shutil.copytree(templates, copy)
    spec = ModuleSpec("templates", None, origin=str(copy / "__init__.py"))
    monkeypatch.setattr(fingerprint, "find_spec", lambda name: spec)
    assert both() == before


def test_every_header_of_the_grouped_gemm_counts() -> None:
    """The real template: what the compiler reads of ours is what is hashed."""
    root = Path(ops.__file__).parent
    included = fingerprint._included(sorted(root.glob("grouped_gemm.*")), root / "include")
    names = {file.stem for file in included}
    assert {"grouped_gemm_sm75", "mma_sm75_f16", "warp", "activation"} <= names
    assert not {name for name in names if name.startswith("gate")}


def test_an_op_without_a_template_is_told(templates: Path) -> None:
    with pytest.raises(UserError, match="op 'three' has no template"):
        fingerprint.template_fingerprint("three")
