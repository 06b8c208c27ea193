# SPDX-License-Identifier: Apache-2.0
"""
Build of the one extension, ``sidecar.core._core``, from the parts in ``ext/``.

Switches of the environment, each with build folders of its own:

``SIDECAR_DEBUG=1``
    Bounds checks, line tracing, an annotated listing in ``build/cython-debug/``, no optimisation.
``SIDECAR_SANITIZE=1``
    Address and undefined-behaviour sanitizers; the first finding ends the process.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = {
    # Images are read through unaligned and packed views, so type-based aliasing stays off.
    "release": ["-O3", "-g1", "-fno-strict-aliasing", "-fvisibility=hidden"],
    "debug": ["-O0", "-g3", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-DCYTHON_TRACE_NOGIL=1"],
    "sanitize": [
        "-O1",
        "-g3",
        "-fno-strict-aliasing",
        "-fno-omit-frame-pointer",
        "-U_FORTIFY_SOURCE",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ],
}


def variant() -> str:
    """Give the name of the build that the environment asks for."""
    if os.environ.get("SIDECAR_SANITIZE", "0") not in ("", "0"):
        return "sanitize"
    if os.environ.get("SIDECAR_DEBUG", "0") not in ("", "0"):
        return "debug"
    return "release"


def core(build: str) -> Extension:
    """Describe the extension; every part is a dependency, so that an edit of any rebuilds it."""
    parts = sorted(str(path) for pattern in ("*.pyx", "*.pxi", "*.pxd", "*.h") for path in Path("ext").glob(pattern))
    return Extension(
        "sidecar.core._core",
        sources=["ext/_core.pyx"],
        include_dirs=["ext"],
        depends=[*parts, "setup.py"],
        extra_compile_args=FLAGS[build],
        extra_link_args=["-fsanitize=address,undefined"] if build == "sanitize" else [],
    )


def extensions() -> list[Extension]:
    """Translate the parts to C, in a folder that belongs to this kind of build."""
    build = variant()
    careful = build != "release"
    modules: list[Extension] = cythonize(
        [core(build)],
        build_dir=f"build/cython-{build}",
        include_path=["ext"],
        annotate=build == "debug",
        compiler_directives={
            "language_level": 3,
            "boundscheck": careful,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": careful,
            "embedsignature": True,
            "linetrace": build == "debug",
        },
    )
    return modules


setup(
    ext_modules=extensions(),
    options={"build": {"build_base": f"build/base-{variant()}"}},
)
