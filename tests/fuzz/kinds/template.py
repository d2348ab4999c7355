"""Chat templates: of Gemma's own with changed parts, and grown at random from what Jinja offers."""

from __future__ import annotations

import functools
import random
from pathlib import Path

from ..base import READER
from ..bundles import file_of
from ..gguf_edit import GGUF
from ..mutate import NUMBERS, mangled
from ..verdict import Kind, WrongError

_VALUES = ("messages", "messages[0]", "messages[0]['content']", "bos_token", "'abc'", "[1, 2]", "{'a': 1}", "range(5)",
    "range(10**9)", "namespace(a=1)",
           "loop", "self", "none", "true", "x", "1.5", "tools", "cycler", "joiner", "lipsum", "dict", "(1, 2)", "namespace",
           "raise_exception",
           "messages[-1].content", "x.y.z", "[].append", "''.__class__", "messages.__class__.__mro__", "range.__self__",
           "caller", "varargs")  # fmt: skip
_FILTERS = ("upper", "length", "join(',')", "join(messages)", "tojson", "tojson(indent=100000000)", "list", "string",
    "replace('a', 'b' * 9999)", "map('upper')",
            "map(attribute='role')", "select('odd')", "center(1000000000)", "indent(100000000)", "format(1)", "xmlattr",
            "sort", "unique", "batch(3)",
            "slice(1000000000)", "wordwrap(1)", "pprint", "random", "sum", "first", "last", "int", "float", "abs",
            "round(400)", "truncate(5)", "default('x')",
            "attr('__class__')", "trim", "items", "reverse", "groupby('role')", "urlize", "striptags", "safe", "escape",
            "d('x' * 10**9)")  # fmt: skip
_METHODS = (".upper()", ".ljust(1000000000)", ".format(1)", ".format_map({})", ".join(['a'] * 10000)",
    ".replace('a', 'bbbb')", ".split('')", ".zfill(10**9)",
            ".encode()", ".__class__", ".mro()", "[::-1]", "[0:10**9]", "[10**9]", ".get('x', 'y')", ".items()",
            ".expandtabs(10**9)", ".translate({97: 'x' * 10**6})",
            ".pop()", ".append(1)", ".update({})", ".title()", ".count('a')", ".splitlines()", ".center(10**9)",
            ".startswith(1)", ".split('a', 'b')")  # fmt: skip
_OPERATORS = (
    " + ",
    " ~ ",
    " * ",
    " ** ",
    " // ",
    " % ",
    " - ",
    " / ",
    " in ",
    " == ",
    " < ",
    " and ",
    " or ",
    " is divisibleby ",
    " is string and ",
    " is in ",
    " if x else ",
)


def _expression(rng: random.Random, depth: int = 0) -> str:
    chance = rng.random()
    if depth > 4 or chance < 0.3:
        return rng.choice(
            (
                rng.choice(_VALUES),
                rng.choice(_VALUES),
                str(rng.choice(NUMBERS[:-4])),
                repr("y" * rng.choice((0, 1, 100, 5000))),
            )
        )
    one, two = _expression(rng, depth + 1), _expression(rng, depth + 1)
    if chance < 0.5:
        return f"({one}{rng.choice(_OPERATORS)}{two})"
    if chance < 0.7:
        return f"({one})|{rng.choice(_FILTERS)}"
    if chance < 0.85:
        return f"({one}){rng.choice(_METHODS)}"
    return rng.choice(
        (f"[{one}, {two}]", f"{{{one}: {two}}}", f"{one}({two})", f"({one})[{two}]", f"{one} if {two} else ''")
    )


def _statement(rng: random.Random, depth: int = 0) -> str:
    if depth > 3:
        return "{{ x }}"
    inner = "".join(_statement(rng, depth + 1) for _ in range(rng.choice((1, 1, 2))))
    expression = _expression(rng)
    return rng.choice((
        f"{{{{ {expression} }}}}", f"{{{{ {expression} }}}}", f"{{% set x = {expression} %}}{inner}",
            f"{{% for x in {expression} %}}{inner}{{% endfor %}}",
        f"{{% if {expression} %}}{inner}{{% else %}}n{{% endif %}}",
            f"{{% macro m(x) %}}{inner}{{% endmacro %}}{{{{ m({expression}) }}}}",
        f"{{% macro m(x) %}}{{{{ m(x) }}}}{{% endmacro %}}{{{{ m({expression}) }}}}",
            f"{{% set x %}}{inner}{{% endset %}}{{{{ x ~ x ~ x }}}}",
        f"{{% call(x) m() %}}{inner}{{% endcall %}}", f"{{% filter {rng.choice(_FILTERS)} %}}{inner}{{% endfilter %}}",
        f"{{% set n = namespace(v={expression}) %}}{{% for i in range(50) %}}{{% set n.v = n.v ~ n.v %}}{{% endfor %}}"
        "{{ n.v }}",
        f"{{% for x in {expression} recursive %}}{{{{ loop(x) }}}}{{% endfor %}}", f"{{% include {expression} %}}",
            f"{{% import {expression} as y %}}",
        f"{{% extends {expression} %}}", f"{{% block b %}}{inner}{{{{ self.b() }}}}{{% endblock %}}",
            f"{{% with x = {expression} %}}{inner}{{% endwith %}}",
        f"{{# {inner} #}}", "{% raw %}{{ }}{% endraw %}", f"{{{{ raise_exception({expression}) }}}}",
    ))  # fmt: skip


@functools.cache
def _usual(base: Path) -> str:
    """The template that the reader's file carries."""
    found = GGUF.read((base / READER / file_of(base, READER, "language")).read_bytes())
    return next(str(value) for key, _, value in found.keys if key == "tokenizer.chat_template")


def make(rng: random.Random, base: Path) -> bytes:
    chance = rng.random()
    usual = _usual(base)
    if chance < 0.3:
        return mangled(rng, usual.encode())
    if chance < 0.4:
        parts = usual.split("%}")
        parts.insert(rng.randrange(len(parts)), f"{rng.choice(('', '%}'))}{_statement(rng)}")
        return "%}".join(parts).encode("utf-8", "surrogatepass")
    if chance < 0.43:
        return rng.choice((b"", b" ", b"\xff\xfe", b"{{" * 50_000, b"{% if x %}" * 3000, b"x" * 300_000, b"(" * 5000,
            b"{{ " + b"(" * 900 + b"1" + b")" * 900 + b" }}",
                           b"{{ " + b"-" * 3000 + b"1 }}", b"{{ x" + b".a" * 5000 + b" }}",
                           b"{{ 9" + b"**9" * 20 + b" }}"))  # fmt: skip
    return "".join(_statement(rng) for _ in range(rng.choice((1, 2, 3)))).encode("utf-8", "surrogatepass")


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.generator.chat_template import Message, render

    template = content.decode("utf-8", "replace")
    messages = [
        Message("system", ("be brief",)),
        Message("user", (None, "a <end_of_turn> question")),
        Message("assistant", ("yes",)),
        Message("user", ("why?",)),
    ]
    pieces = render(template, messages, is_control=lambda text: "<end_of_turn>" in text)
    size = sum(len(text) for text, _ in pieces)
    if size > 8_000_000:
        raise WrongError(f"a prompt of {size} characters")
    # Text from outside is never read as control tokens, whatever the template does with it.
    if any("a <end_of_turn> question" in text for text, trusted in pieces if trusted):
        raise WrongError("text from outside became part of the template's own")
    if any("\x02" in text for text, _ in pieces):
        raise WrongError("a mark in place of a text is left in the prompt")


KIND = Kind(make, run, suffix=".jinja", modules=("jinja2.sandbox", "medge.runtime.generator.chat_template",
    "medge.runtime.generator.template_sandbox"), batch=40, share=2)  # fmt: skip
