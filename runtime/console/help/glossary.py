"""What the terms of commands and reports mean; the texts are in `glossary.json`, for the documentation, too."""

from __future__ import annotations

import difflib
import json
from importlib import resources

from ...errors import MedgeError


def read_glossary() -> dict[str, str]:
    """{term: what it means}, in the order of the alphabet."""
    text = (resources.files(__package__) / "glossary.json").read_text(encoding="utf-8")
    return {str(term): str(meaning) for term, meaning in json.loads(text).items()}


def explanation(term: str) -> tuple[str, str]:
    """A term as the glossary writes it, and what it means; capitals, hyphens and a plural's s do not matter.

    Raises:
        MedgeError: the glossary has no such term; the nearest ones are named.
    """
    glossary = read_glossary()
    names = {plain(name): name for name in glossary}
    wanted = plain(term)
    for form in (wanted, wanted.removesuffix("s")):
        if form in names:
            return names[form], glossary[names[form]]
    near = difflib.get_close_matches(wanted, names, 3, 0.5)
    hint = f"; did you mean {' or '.join(names[form] for form in near)}?" if near else ";"
    raise MedgeError(f"there is no term {term!r}{hint} 'medge help' lists all")


def plain(term: str) -> str:
    """A term without what does not matter: capitals, hyphens and doubled blanks."""
    return " ".join(term.casefold().replace("-", " ").replace("_", " ").split())
