"""Scripts of writing, by which a vocabulary is cut; importing it loads neither torch nor gguf.

A character belongs to a script by the first word of its Unicode name, after NFKD: "é" is a Latin letter and an accent, "ﬁ" two
Latin letters, "µ" a Greek one. What is neither letter nor mark (digits, punctuation, symbols, spaces) belongs to all of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from ...runtime.errors import RecipeError

LATIN = "latin"
# {script: how the names of its characters begin}; Latin is always there: chat templates, units and names of drugs are written in
# it, and medicine writes Greek letters among it. Scripts with fewer than a hundred pieces in Gemma's vocabulary are left out.
SCRIPTS: dict[str, tuple[str, ...]] = {
    LATIN: ("LATIN", "GREEK", "COMBINING", "MODIFIER", "VARIATION"),
    "han": ("CJK", "IDEOGRAPHIC"),  # Chinese; Japanese is written in han and kana
    "kana": ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    **{
        name: (name.upper(),)
        for name in (
            "arabic", "armenian", "bengali", "cyrillic", "devanagari", "ethiopic", "georgian", "gujarati", "gurmukhi", "hangul",
            "hebrew", "kannada", "khmer", "lao", "malayalam", "myanmar", "oriya", "sinhala", "tamil", "telugu", "thaana", "thai",
            "tibetan",
        )
    },
}  # fmt: skip


def parse_scripts(text: str) -> tuple[str, ...]:
    """ "cyrillic" or "latin,cyrillic", to ("latin", "cyrillic"): Latin, then the others in the table's order.

    Raises:
        RecipeError: a script that is not in `SCRIPTS`.
    """
    named = [name.strip().lower() for name in text.split(",")]
    if unknown := [name for name in named if name not in SCRIPTS]:
        raise RecipeError(
            f"there is no script {unknown[0]!r} for --vocabulary, which takes scripts, not languages (English, French, Swahili "
            f"and others are latin, Chinese is han, Japanese han,kana): choose from {', '.join(SCRIPTS)}"
        )
    return tuple(name for name in SCRIPTS if name == LATIN or name in named)


def say_scripts(scripts: Sequence[str]) -> str:
    """ "Latin script", "Latin, Arabic and Cyrillic script"."""
    names = [name.title() for name in scripts]
    return f"{', '.join(names[:-1])} and {names[-1]} script" if len(names) > 1 else f"{names[0]} script"


def is_written_in(text: str, scripts: Sequence[str]) -> bool:
    """Whether every letter and mark of a text belongs to one of these scripts.

    It is asked of each character alone, so that whatever is a part of such a text is such a text, too: a vocabulary that is cut
    by it keeps every piece that a kept piece is merged from.
    """
    beginnings = {beginning for script in scripts for beginning in SCRIPTS[script]}
    return all(_beginnings(character) <= beginnings for character in text)


@cache
def _beginnings(character: str) -> frozenset[str]:
    """The first words of the names of its letters and marks; a character without a name has one that no script has."""
    return frozenset(
        unicodedata.name(part, "?").split()[0]
        for part in unicodedata.normalize("NFKD", character)
        if unicodedata.category(part)[0] in "LM"
    )
