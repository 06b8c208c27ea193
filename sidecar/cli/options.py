# SPDX-License-Identifier: Apache-2.0
"""
Options that several commands have in common, stated once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_options(parameter: str, build: Callable[..., object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Return a decorator of commands: the parameters of *build* become options, and its result the *parameter*.

    Args:
        parameter: Keyword parameter of the command; its options stand in the help where it stands.
        build: Such as a data class whose fields are annotated as options.
    """
    options = inspect.signature(build, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**stated: Any) -> None:
            built = build(**{name: stated.pop(name) for name in options})
            command(**{parameter: built}, **stated)

        own = inspect.signature(command, eval_str=True).parameters
        shown: list[inspect.Parameter] = []
        for name, found in own.items():
            shown += options.values() if name == parameter else [found]
        # What reads a command's options asks for these two.
        signature = inspect.Signature([found.replace(kind=inspect.Parameter.KEYWORD_ONLY) for found in shown])
        vars(run)["__signature__"] = signature
        run.__annotations__ = {found.name: found.annotation for found in shown}
        return run

    return decorate
