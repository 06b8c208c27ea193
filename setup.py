# SPDX-License-Identifier: Apache-2.0
"""
Build of the one extension, ``sidecar.core._core``, from the parts in ``ext/``.

Switches of the environment, each with build folders of its own:

``SIDECAR_DEBUG=1``
    Bounds checks, line tracing, an annotated listing in ``build/cython-debug/``, no optimisation.
``SIDECAR_SANITIZE=1``
    Address and undefined-behaviour sanitizers; the first finding ends the process.
``SIDECAR_SANITIZE=thread``
    The thread sanitizer.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = {
    # Images are read through unaligned and packed views, so type-based aliasing stays off.
    "release": ["-O3", "-g1", "-fno-strict-aliasing", "-fvisibility=hidden"],
    "debug": ["-O0", "-g3", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-DCYTHON_TRACE_NOGIL=1"],
    # With these two, `-Og` compiles in a third of the time that `-O1` takes.
    "sanitize": [
        "-Og",
        "-g1",
        "-fno-strict-aliasing",
        "-fno-omit-frame-pointer",
        "-U_FORTIFY_SOURCE",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ],
    "sanitize-thread": [
        "-O1",
        "-g1",
        "-fno-strict-aliasing",
        "-fno-omit-frame-pointer",
        "-U_FORTIFY_SOURCE",
        "-fsanitize=thread",
    ],
}


def variant() -> str:
    """Give the name of the build that the environment asks for."""
    sanitize = os.environ.get("SIDECAR_SANITIZE", "0")
    if sanitize == "thread":
        return "sanitize-thread"
    if sanitize not in ("", "0"):
        return "sanitize"
    if os.environ.get("SIDECAR_DEBUG", "0") not in ("", "0"):
        return "debug"
    return "release"


#: What newer versions of nghttp2 offer, or older ones that a distribution has mended.
NEWER_NGHTTP2 = (
    "nghttp2_option_set_stream_reset_rate_limit",
    "nghttp2_option_set_max_continuations",
    "nghttp2_option_set_glitch_rate_limit",
)


def nghttp2_macros() -> list[tuple[str, str | None]]:
    """Say which of ``NEWER_NGHTTP2`` the installed header declares; there is no version to go by."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *shlex.split(os.environ.get("CFLAGS", "")), "-E", "-include", "nghttp2/nghttp2.h", "-xc", "-"]
    run = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"the header nghttp2/nghttp2.h is missing; install libnghttp2-dev (Debian, Ubuntu)\n{run.stderr}")
    return [(f"HAVE_{name.upper()}", None) for name in NEWER_NGHTTP2 if f"{name}(" in run.stdout]


def require_libcrypto() -> None:
    """Say what to install where the headers of OpenSSL 3 are missing."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *shlex.split(os.environ.get("CFLAGS", "")), "-E", "-xc", "-"]
    text = "#include <openssl/evp.h>\n#if OPENSSL_VERSION_MAJOR < 3\n#error older than 3.0\n#endif\n"
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"the headers of OpenSSL 3 are missing; install libssl-dev (Debian, Ubuntu)\n{run.stderr}")


def core(build: str) -> Extension:
    """Describe the extension; every part is a dependency, so that an edit of any rebuilds it."""
    require_libcrypto()
    parts = sorted(str(path) for pattern in ("*.pyx", "*.pxi", "*.pxd", "*.h") for path in Path("ext").glob(pattern))
    return Extension(
        "sidecar.core._core",
        sources=["ext/_core.pyx"],
        include_dirs=["ext"],
        depends=[*parts, "setup.py"],
        define_macros=nghttp2_macros(),
        libraries=["nghttp2", "crypto"],
        extra_compile_args=FLAGS[build],
        extra_link_args=[flag for flag in FLAGS[build] if flag.startswith("-fsanitize=")],
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
