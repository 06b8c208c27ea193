# SPDX-License-Identifier: Apache-2.0
"""What review forgets: licence lines, notes to oneself, machine paths, run bits, exported names, links."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar

ROOT = Path(__file__).parents[2]
SOURCES = {".py", ".pyx", ".pxi", ".pxd", ".h", ".c", ".toml", ".in"}
TEXTS = SOURCES | {".md", ".json", ".yaml", ".yml", ".proto", ""}
SKIPPED = {"build", "dist", "node_modules"}
#: Where trees of machines begin; none of them stands in a text of this project.
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_./-])/(work|farm|root|tmp/brief)/", re.MULTILINE)
REGISTRY_HOST = re.compile(r"\b(pypi\.org|pythonhosted\.org|deb\.debian\.org|archive\.ubuntu\.com|index-url)\b")
NOTE = re.compile(r"\b(T[O]DO|FIX[M]E|X[X]X|H[A]CK)\b")


def files() -> Iterator[Path]:
    """Give every file of the tree that a person wrote."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED
            and (not name.startswith(".") or name == ".ci")
            and not name.startswith("__pycache__")
            and not name.endswith(".egg-info")
            and Path(folder, name) != ROOT / "sidecar" / "wire"
        )
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix in TEXTS and not name.startswith(".") and path != ROOT / "ext" / "_core.c":
                yield path


FILES = list(files())
SCRIPTS = [path for path in FILES if path.parent.name in ("scripts", ".ci") and not path.suffix]


def where(pattern: re.Pattern[str], *, suffixes: set[str]) -> list[str]:
    """Give the places that a pattern stands at, as ``file:line``."""
    found = []
    for path in FILES:
        if path.suffix in suffixes:
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, m.end()) + 1}" for m in pattern.finditer(text)]
    return found


def test_source_file_then_it_names_its_licence_first() -> None:
    unlicensed = [
        str(path.relative_to(ROOT))
        for path in FILES
        if path.suffix in SOURCES or path in SCRIPTS
        if "SPDX-License-Identifier: Apache-2.0" not in "".join(path.read_text().splitlines(keepends=True)[:2])
    ]

    assert unlicensed == []


def test_text_then_it_holds_no_path_of_one_machine() -> None:
    assert where(MACHINE_PATH, suffixes=TEXTS) == []


def test_text_then_it_names_no_registry() -> None:
    assert [
        place for place in where(REGISTRY_HOST, suffixes=TEXTS) if not place.startswith("tests/unit/test_house.py")
    ] == []


def test_source_then_it_holds_no_note_to_oneself() -> None:
    assert where(NOTE, suffixes=SOURCES | {".md", ""}) == []


def test_scripts_then_each_runs_and_says_what_it_does() -> None:
    assert {path.name for path in SCRIPTS} >= {"setup", "run", "test", "check", "bench", "proto", "fuzz"}
    for path in SCRIPTS:
        lines = path.read_text().splitlines()
        if lines[0].startswith("#!"):
            assert os.access(path, os.X_OK), path
            assert lines[1] == "# SPDX-License-Identifier: Apache-2.0", path
            assert re.match(r"# [A-Z].+", lines[2]), path
        else:
            assert not os.access(path, os.X_OK), path
        subprocess.run(["bash", "-n", path], check=True)


def test_setup_when_nothing_is_missing_then_it_does_nothing() -> None:
    run = subprocess.run([ROOT / "scripts" / "setup"], capture_output=True, text=True, check=True)

    assert run.stdout == run.stderr == ""


def test_setup_when_it_prepares_the_build_then_it_takes_what_the_build_asks_for() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    line = next(line for line in (ROOT / "scripts" / "setup").read_text().splitlines() if line.startswith('  pip "'))

    assert re.findall(r'"([^"]+)"', line) == wanted


def modules() -> list[str]:
    """Give the name of every module of the package but the generated ones and those that run when imported."""
    return [
        module.name
        for module in pkgutil.walk_packages(sidecar.__path__, "sidecar.")
        if not module.name.startswith("sidecar.wire") and not module.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", modules())
def test_module_then_what_it_exports_is_there_and_described(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", ())

    assert (module.__doc__ or "").strip()
    assert len(set(exported)) == len(exported)
    for word in exported:
        assert hasattr(module, word), word
        if callable(getattr(module, word)):
            assert getattr(module, word).__doc__, word


def test_core_then_it_exports_what_the_other_rooms_call() -> None:
    core = importlib.import_module("sidecar.core")

    assert {"Image", "authorize", "batch_authorize", "explain"} <= set(core.__all__)


def test_public_function_then_it_has_a_docstring_with_quotes_of_its_own_or_one_line() -> None:
    crooked = []
    for path in sorted((ROOT / "sidecar").rglob("*.py")):
        if "wire" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                text = ast.get_docstring(node, clean=False)
                if text and "\n" in text and not text.startswith("\n"):
                    crooked.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}")

    assert crooked == []


PAGES = [path for path in FILES if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """Give the anchors of the headings of a page, as they are commonly made."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_when_it_links_to_a_place_in_the_tree_then_that_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_page_then_a_way_leads_there_from_the_readme() -> None:
    seen: set[Path] = set()
    ways = [ROOT / "README.md"]
    while ways:
        page = ways.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        ways += [page.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^)\s:]+)\)", page.read_text())]

    assert [
        str(page.relative_to(ROOT)) for page in PAGES if page.parent.name == "docs" and page.resolve() not in seen
    ] == []


def test_changelog_then_the_version_in_the_tree_is_not_behind_it() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert not versions or versions[0] == sidecar.__version__
