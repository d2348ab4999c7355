"""`medge help`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console.options import JsonOption
from ..console.terminal import out, print_json

# Exit codes of all commands: {code: when}.
EXIT_CODES = {
    0: "All is done.",
    1: "Nothing useful could be done, such as where a file, a recipe or a window does not exist; one sentence on stderr says "
    "why. Also: a check failed (verify, doctor).",
    2: "An option or an argument is missing, unknown or out of range; nothing was begun.",
    3: "Done, but some inputs could not be read, or an answer was cut off; stderr names them.",
    4: "The bundle was written or measured, and failed its parity gate.",
    130: "Stopped with Ctrl-C; what lay half-made is removed, and what can be gone on with is kept.",
    143: "The same, at the system's request (SIGTERM; 129 at SIGHUP).",
}
EXIT_CODES_TOPIC = "exit-codes"


def explain(
    term: Annotated[
        str | None, typer.Argument(help="A term, or exit-codes.", show_default="a list of the terms")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a term that medge's commands and reports use, or the exit codes.

    Example: medge help "KL divergence"
    """
    from ..console.help.glossary import explanation, plain, read_glossary

    if term is not None and plain(term).removesuffix("s") == "exit code":
        found = {str(code): when for code, when in EXIT_CODES.items()}
    elif term is None:
        found = read_glossary()
    else:
        name, text = explanation(term)
        found = {name: text}
    if as_json:
        print_json({"results": [{"term": name, "meaning": text} for name, text in found.items()]})
    elif term is None:
        out.print(", ".join([*found, EXIT_CODES_TOPIC]))
    else:
        for name, text in found.items():
            out.print(f"{name}: {text}")
