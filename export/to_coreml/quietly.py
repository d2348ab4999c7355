"""coremltools without what it says and does in passing: of versions, passes, libraries that only a Mac has; check after check."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from ...runtime.errors import MissingExtraError


@cache
def coremltools() -> Any:
    """The module.

    Raises:
        MissingExtraError: it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        with quiet():
            import coremltools as ct
            import coremltools.optimize
    except ModuleNotFoundError as error:
        raise MissingExtraError("coremltools", "export") from error
    return ct


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """coremltools reports its passes on stderr and warns of versions that it was not tested with."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def checked_once() -> Iterator[None]:
    """coremltools checks the whole program after each of its ninety passes; inside, it does not: `check` what it gives."""
    coremltools()
    from coremltools.converters.mil.mil.program import Program

    original = Program.validate
    Program.validate = lambda *_, **__: None
    try:
        yield
    finally:
        Program.validate = original


def check(model: Any) -> Any:
    """The model, after coremltools' own check of its program.

    Raises:
        Exception: a pass has spoiled it; a fault of coremltools, which has no class for it.
    """
    model._mil_program.validate()
    return model
