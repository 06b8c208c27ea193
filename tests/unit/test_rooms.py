# SPDX-License-Identifier: Apache-2.0
"""
Rooms are one-way, inside the extension too, which import-linter does not see.

``ext/_core.pyx`` includes its parts in an order, and a part may use those above it. Each may name only what its work
needs: deciding allocates nothing and calls nothing outside.
"""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXT = ROOT / "ext"
PARTS = re.findall(r'^include "(\w+)\.pxi"', (EXT / "_core.pyx").read_text(), re.MULTILINE)

#: What a word outside of comments and strings would mean that a part does.
WORDS = {
    "python": r"\b(import|cdef class|raise|try|isinstance)\b",
    "allocation": r"\b(malloc|calloc|realloc|free|alloca|PyMem_\w+|PyBytes_\w+|new)\b",
    "system": r"(?<!def )\b(mmap|munmap|memfd_create|open|read|write|pread|fcntl|close|fstat|ftruncate|getenv|syscall)"
    r"\b *\(",
    "clock": r"\b(clock_gettime|gettimeofday|time|perf_counter|monotonic)\b *\(",
    "chance": r"\b(rand|random|srand|getrandom|arc4random|RAND_bytes)\b *\(",
    "thread": r"\b(pthread_\w+|PyThread_\w+|with gil)\b",
    "network": r"\b(socket|bind|listen|accept4?|epoll_\w+|nghttp2_\w+)\b *\(",
    "recursion": r"\brecurs",
    # Asked only of those that carry calls.
    "policy": r"\b(Image\w*|Eval|Layers|Rule|Principal|Outcome|decide)\b",
}
#: Parts that carry calls and know nothing of what they mean.
CARRIERS = {"http2"}
#: What each part may do beyond reading its arguments and writing its results.
MAY = {
    "layout": set[str](),
    "text": set[str](),
    "atomic": set[str](),
    "image": set[str](),
    "sound": set[str](),
    "sound_routes": set[str](),
    "load": {"python", "allocation", "system"},
    "glob": set[str](),
    "value": set[str](),
    "request": set[str](),
    "protobuf": set[str](),
    "attributes": set[str](),
    "seal": set[str](),
    "claims": set[str](),
    "token": set[str](),
    "path": set[str](),
    "route": set[str](),
    "template": set[str](),
    "caller": set[str](),
    "route_bind": set[str](),
    "condition": set[str](),
    "rules": set[str](),
    "parties": set[str](),
    "decide": set[str](),
    "shadow": set[str](),
    "explain": {"python", "allocation"},
    "wire": set[str](),
    "ticket": {"chance"},
    "client": set[str](),
    "hygiene": set[str](),
    "check_wire": set[str](),
    "telemetry": {"clock"},
    "answer": {"allocation"},
    "check": set[str](),
    "check_face": {"python", "allocation", "thread", "system"},
    "sessions": {"python", "allocation"},
    "face": {"python", "allocation", "thread", "system"},
    "resolve": {"python", "allocation"},
    "http2": {"allocation", "network"},
    "worker": {"allocation", "network", "thread", "system"},
    "server": {"python", "allocation", "network", "thread", "system"},
    "probe": {"python", "allocation", "network", "system"},
    "measure": {"python", "allocation", "clock", "system"},
}


def code(path: Path) -> str:
    """Give the text of a part without comments, docstrings and strings; line breaks stay."""
    text = re.sub(r'"""(?:.|\n)*?"""', lambda match: "\n" * match[0].count("\n"), path.read_text())
    text = re.sub(r'[bru]?"(?:[^"\\\n]|\\.)*"', '""', text)
    return re.sub(r"#.*", "", text)


def definitions(part: str) -> tuple[set[str], set[str]]:
    """Give the names of the C functions that a part defines, and those of its structs and classes."""
    text = code(EXT / f"{part}.pxi")
    functions = set(re.findall(r"^(?:cdef|cpdef)\b[^\n(=]*?\b(\w+)\(", text, re.MULTILINE))
    return functions, set(re.findall(r"^cdef (?:packed )?(?:struct|class) (\w+)", text, re.MULTILINE))


def used(part: str, by: str) -> set[str]:
    """Give what *by* uses of what *part* defines: functions it calls, types it names."""
    functions, types = definitions(part)
    text = code(EXT / f"{by}.pxi")
    return (functions & set(re.findall(r"(?<![.\w])(\w+)\(", text))) | (types & set(re.findall(r"\w+", text)))


def test_parts_when_listed_then_every_file_is_one() -> None:
    assert sorted(PARTS) == sorted(path.stem for path in EXT.glob("*.pxi"))
    assert set(PARTS) == set(MAY), "say here what a new part may name"


@pytest.mark.parametrize("part", PARTS)
def test_part_when_it_uses_another_then_that_stands_above_it(part: str) -> None:
    later = {other: sorted(used(other, by=part)) for other in PARTS[PARTS.index(part) + 1 :]}

    assert {other: names for other, names in later.items() if names} == {}


@pytest.mark.parametrize("part", PARTS)
def test_part_when_it_names_something_outside_then_that_is_its_work(part: str) -> None:
    found: dict[str, list[str]] = {}
    for kind, pattern in WORDS.items():
        if kind not in MAY[part] and (kind != "policy" or part in CARRIERS):
            for number, line in enumerate(code(EXT / f"{part}.pxi").splitlines(), start=1):
                if re.search(pattern, line):
                    found.setdefault(kind, []).append(f"{number}: {line.strip()}")

    assert found == {}


@pytest.mark.parametrize("part", PARTS)
def test_function_of_the_core_when_it_gives_a_c_value_then_it_states_how_it_fails(part: str) -> None:
    unstated = [
        match[0].strip()
        for match in re.finditer(
            r"^cdef (?!class|struct|enum|packed|extern)[^\n=]*\([^)]*\)[^\n]*:", code(EXT / f"{part}.pxi"), re.MULTILINE
        )
        if not re.search(r"\bnoexcept\b|\bexcept\b", match[0])
        and not re.match(r"cdef (inline )?(object|bytes|str|list|tuple|dict|set|Image)\b", match[0])
    ]

    assert unstated == []


def test_contracts_when_a_room_exists_then_it_stands_in_them() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = " ".join(contracts[0]["layers"])
    rooms = {
        path.stem for path in (ROOT / "sidecar").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    optional = set(re.findall(r"\((\w+)\)", layers))

    assert rooms - {"__init__"} - optional == set(re.findall(r"\w+", layers)) - optional
    assert set(contracts[1]["source_modules"]) == {
        f"sidecar.{room}" for room in ("model", "compile", "core", "mfa") if room in rooms
    }


def test_core_when_imported_then_no_server_comes_with_it() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, sidecar.core, sidecar.compile.source; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert {"grpc", "google.protobuf", "structlog", "prometheus_client", "starlette", "typer", "rich"} & set(
        loaded
    ) == set()
    assert "sidecar.core._core" in loaded


def test_import_when_it_is_of_another_project_then_that_is_declared() -> None:
    declared = {
        re.split(r"[<>=~\[ ]", line)[0].lower().replace("_", "-")
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    # Comes with grpcio-status, which is declared.
    declared.add("googleapis-common-protos")
    distributions = importlib.metadata.packages_distributions()
    undeclared = {}
    for path in (ROOT / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top == "sidecar" or top in sys.stdlib_module_names:
                    continue
                owners = {name.lower().replace("_", "-") for name in distributions.get(top, [top])}
                if not owners & declared:
                    undeclared[module] = str(path.relative_to(ROOT))

    assert undeclared == {}
