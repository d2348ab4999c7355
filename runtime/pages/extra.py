"""Whether pages can be made here: they need packages that the bare install lacks."""

from __future__ import annotations

import importlib

from ..errors import MissingExtraError

_NEEDED = ("jinja2", "markupsafe", "matplotlib")


def require_pages() -> None:
    """Load what makes pages, which takes about a second.

    Raises:
        MissingExtraError: a package of `medge[pages]` is not installed.
    """
    for module in ("templates", "drawing"):
        try:
            importlib.import_module(f".{module}", __package__)
        except ModuleNotFoundError as error:
            name = (error.name or "").split(".")[0]
            if name not in _NEEDED:
                raise
            raise MissingExtraError(name, "pages") from error
