"""What goes wrong, in the form that OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ...errors import (
    ConflictError,
    ContextError,
    ImageError,
    LabelError,
    MedgeError,
    ModelEndedError,
    ObjectRefusedError,
    StationError,
    StationFullError,
    one_line,
)
from ..models.answers import BusyError
from ..models.catalogue import NoModelError

LOG = logging.getLogger("medge.station")
INVALID = "invalid_request_error"


class Problem(BaseModel):
    """What went wrong.

    Attributes:
        message: a sentence that says what is wrong and what to do.
        type: "invalid_request_error" for what the request can mend, else "server_error".
        param: the field that is wrong, where it is one.
        code: a word for programs, where there is one.
    """

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ProblemBody(BaseModel):
    """The body of every answer that is none."""

    error: Problem


# What a route of an encoder answers beside its result, for the OpenAPI document.
ENCODER_PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": ProblemBody} for status in (400, 404, 503)}


class RefusedError(StationError):
    """A request that can't be answered.

    Attributes:
        status: the HTTP status.
        param, code: as in `Problem`.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        self.status, self.param, self.code = status, param, code
        super().__init__(message)


def problem_of(error: BaseException) -> tuple[int, Problem]:
    """The HTTP status and the description of an error. A fault of medge's is named by its kind and place alone, and logged so:
    its words may be a patient's."""
    match error:
        case RefusedError():
            kind = INVALID if error.status < 500 else "server_error"
            return error.status, Problem(message=one_line(error), type=kind, param=error.param, code=error.code)
        case BusyError():
            return 429, Problem(message=str(error), type="server_error", code="rate_limit_exceeded")
        case ModelEndedError():
            return 503, Problem(message=one_line(error), type="server_error", code="model_ended")
        case ContextError() if "does not fit into memory" in str(error):
            return 503, Problem(message=one_line(error), type="server_error", code="out_of_memory")
        case ContextError():
            return 400, Problem(message=one_line(error), type=INVALID, code="context_length_exceeded")
        case NoModelError():
            return 404, Problem(message=one_line(error), type=INVALID, param="model", code="model_not_found")
        case StationFullError():
            return 507, Problem(
                message="the station's disk is full; make space", type="server_error", code="station_full"
            )
        case ObjectRefusedError():
            return 400, Problem(message=one_line(error), type=INVALID, code="object_refused")
        case ConflictError():
            return 409, Problem(message=one_line(error), type=INVALID, code="conflict")
        case StationError():
            return 503, Problem(message=one_line(error), type="server_error", code="station")
        case ImageError():
            return 400, Problem(message=one_line(error), type=INVALID, code="invalid_image")
        case LabelError():
            return 400, Problem(message=one_line(error), type=INVALID, param="labels")
        case MedgeError():
            return 400, Problem(message=one_line(error), type=INVALID)
        case _:
            trace, place = error.__traceback__, "?"
            while trace is not None:
                place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
            LOG.error("a fault in medge itself: %s at %s", type(error).__name__, place)
            return 500, Problem(message=f"a fault in medge itself ({type(error).__name__})", type="server_error")


def answer(status: int, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem as a response; one that a login mends says how programs log in."""
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    return JSONResponse({"error": problem.model_dump()}, status, headers)


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    headers = {"Retry-After": str(round(error.seconds))} if isinstance(error, BusyError) else None
    return answer(*problem_of(error), headers)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"] if step != "body")
    said = one_line(f"{place}: {first['msg']}" if place else first["msg"])
    return answer(400, Problem(message=said, type=INVALID, param=one_line(place) or None))


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = INVALID if error.status_code < 500 else "server_error"
    headers: Any = error.headers
    return answer(error.status_code, Problem(message=one_line(error.detail), type=kind), headers)


def install(app: FastAPI) -> None:
    """Let an app answer every error in this form."""
    app.add_exception_handler(MedgeError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)
