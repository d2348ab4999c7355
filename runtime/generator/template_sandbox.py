"""Rendering a template from outside: it sees its values and nothing else, and every step of it is counted and bounded.

jinja2's sandbox keeps a template away from Python's internals; it does not bound its work. So here
- every loop iteration, call, filter, test, operator and print is a step, and steps and seconds are limited;
- what a single step can make is limited beforehand: there is no formatting, no padding to a width, and only those filters
  and methods whose work and result are of the size of what they are given;
- every value that is made is weighed, shared parts as often as they occur, so that nothing grows by doubling;
- all values that are made take their bytes from one budget, so that many of them are no way to memory either.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from jinja2 import TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from ..errors import BundleError, MedgeError

MAX_TEMPLATE = 200_000  # characters; a real one has a few thousand
MAX_SIZE = 4_000_000  # characters of the prompt, and of any value on the way
MAX_MADE = (
    256 << 20
)  # bytes of all values together; a prompt of a million characters passes through a hundred steps in that
STEPS, SECONDS = 500_000, 5.0  # a conversation of a thousand turns takes some ten thousand steps
MAX_FACTOR, MAX_POWER = 10_000, 64
MAX_BITS = 64  # of a whole number: arithmetic with longer ones takes time that no step counts
MAX_STRIPPED = 1000  # characters to be stripped off; each of a text is compared with all of them
FILTERS = frozenset(
    {
        "capitalize", "count", "d", "default", "first", "int", "items", "join", "last", "length", "list", "lower", "map",
        "reject", "rejectattr", "replace", "select", "selectattr", "string", "title", "trim", "upper",
    }
)  # fmt: skip
METHODS = frozenset(
    {
        "capitalize", "endswith", "get", "items", "keys", "lower", "lstrip", "rstrip", "split", "startswith", "strip",
        "title", "upper", "values",
    }
)  # fmt: skip
STRIPPING = frozenset({"lstrip", "rstrip", "strip"})
_VIEWS: tuple[type[Any], ...] = (type({}.keys()), type({}.values()), type({}.items()))


class _EndlessError(Exception):
    """The template does or makes more than it may."""


def render_template(template: str, refuse: Callable[[str], None], **values: Any) -> str:
    """Render a template.

    Args:
        template: Jinja source.
        refuse: called where the template says `raise_exception(message)`; it raises a `MedgeError`.
        values: what the template sees: text, numbers, lists and mappings of them.

    Raises:
        BundleError: the template is faulty, does what a template must not, or goes on without end.
        MedgeError: what `refuse` raises.
    """
    if len(template) > MAX_TEMPLATE:
        raise BundleError(f"the chat template has {len(template):,} characters; a real one has a few thousand")
    sandbox = _Sandbox()
    sandbox.globals["raise_exception"] = lambda message: refuse(str(sandbox.weighed(message)))
    try:
        return sandbox.from_string(template).render(**values)
    except MedgeError:
        raise
    except SecurityError as error:
        raise BundleError(f"the chat template does what a template must not: {_short(error)}") from error
    except _EndlessError as error:
        raise BundleError(f"the chat template {error}, and was stopped") from error
    except Exception as error:  # it ends in any of a dozen exception types, those of Python's compiler among them
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise BundleError(f"the chat template is faulty: {kind}{_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:240]


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox with a meter. One environment renders one template."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # The optimizer would compute constants while compiling, before anything is counted.
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False)
        self._steps = self._printed = self._made = 0
        self._end = time.monotonic() + SECONDS
        self.globals = {"range": self.globals["range"], "namespace": Namespace}
        self.filters = {name: self._metered(name, self.filters[name]) for name in FILTERS}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: self._counted(test) for name, test in tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Meter().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    # What the rewritten template calls

    def step(self) -> bool:
        """Count a step; always true, so that it can stand before a condition."""
        self._steps += 1
        if self._steps > STEPS or time.monotonic() > self._end:
            raise _EndlessError("works without end")
        return True

    def weighed(self, value: Any) -> Any:
        """The value itself, if it is data of a bearable size."""
        self.step()
        _weight(value)
        return value

    def made(self, value: Any) -> Any:
        """The value itself, weighed and taken from the budget."""
        self.weighed(value)
        self._made += sys.getsizeof(value)
        if isinstance(value, list | tuple):  # what `split` and `items` give is made anew as well
            self._made += sum(map(sys.getsizeof, value))
        if self._made > MAX_MADE:
            raise _EndlessError("makes more than it may")
        return value

    def printed(self, value: Any) -> str:
        """What is printed of a value; inside macros and blocks, too."""
        text = str(self.weighed(value))
        self._printed += len(text)
        if self._printed > MAX_SIZE:
            raise _EndlessError("writes without end")
        return text

    # What jinja2 asks

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(__obj, "__self__", None) is __self:  # one of the four above
            return __obj(*args)  # what jinja2 passes by name is for macros
        __self.step()
        if getattr(__obj, "__name__", "") in STRIPPING and args and len(args[0]) > MAX_STRIPPED:
            raise SecurityError("it strips more characters than there are reasons to")
        result: Any = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, _VIEWS):
            result = list(result)
        return __self.made(result) if isinstance(result, str | list | tuple | dict) else result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.step()
        if operator == "%" and isinstance(left, str):
            raise SecurityError("it formats text")
        if operator in ("*", "**"):
            factors = [side for side in (left, right) if isinstance(side, int)]
            if any(abs(side) > MAX_FACTOR for side in factors) or (operator == "**" and abs(right) > MAX_POWER):
                raise SecurityError(f"{operator} with a large number")
            repeated = next((side for side in (left, right) if isinstance(side, str | list | tuple)), None)
            if repeated is not None and _weight(repeated) * max(factors, default=1) > MAX_SIZE:
                raise _EndlessError("makes a value of more than it may")
        return self.made(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if callable(value) and isinstance(obj, str | list | tuple | dict | int | float | range):
            return attr in METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Formatting is no method of a template here; jinja2 would let `str.format` pass before it asks."""

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps the marks by which jinja2 knows what to pass
        def run(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return function(*args, **kwargs)

        return run

    def _metered(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or the like comes before the value

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            given = [self.weighed(value) for value in (*args[first:], *kwargs.values())]
            if name in ("join", "replace"):  # each part of the first value can bring another value in once
                added = max((_weight(value) for value in given[1:]), default=0)
                if _weight(given[0]) * added > MAX_SIZE:
                    raise _EndlessError("makes a value of more than it may")
            if name == "trim" and any(len(value) > MAX_STRIPPED for value in given[1:] if isinstance(value, str)):
                raise SecurityError("it strips more characters than there are reasons to")
            result = function(*args, **kwargs)
            return self.made(result if isinstance(result, str | int | float | list | dict) else _plain(result))

        return run


class _Meter(NodeTransformer):
    """Puts the meter into a template's tree, where jinja2's sandbox asks nobody."""

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_metering("printed", child) for child in node.nodes]
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_metering("step", lineno=node.lineno), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_metering("step", lineno=node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_metering("weighed", child) for child in node.nodes]
        return _metering("made", node)

    def _value(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _metering("made", node)

    visit_List = visit_Dict = visit_Compare = _value

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._value(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        return self._value(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)


def _metering(name: str, *values: nodes.Expr, lineno: int | None = None) -> nodes.Call:
    at = values[0].lineno if values else lineno
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=at), list(values), [], None, None, lineno=at)


def _plain(value: Any) -> Any:
    """What a filter gives as a generator, as a list; anything else as it is."""
    return list(value) if hasattr(value, "__next__") else value


def _weight(value: Any) -> int:
    """Characters and items in a value, shared parts counted as often as they occur.

    Raises:
        _EndlessError: more than `MAX_SIZE`.
        SecurityError: there is something else than data in it. A namespace could hold others, twice each.
    """
    weight, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        weight += 1
        if isinstance(item, str | list | tuple | dict | range):
            weight += len(item)
        elif isinstance(item, int) and item.bit_length() > MAX_BITS:
            raise SecurityError(f"it uses a number of {item.bit_length()} bits")
        elif not (item is None or isinstance(item, int | float | Undefined)):
            raise SecurityError(f"it uses a {type(item).__name__} as if it were text, a number or a list")
        if weight > MAX_SIZE:
            raise _EndlessError("makes a value of more than it may")
        if isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
    return weight
