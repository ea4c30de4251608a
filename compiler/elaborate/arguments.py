"""Arguments meet parameters: names, defaults and types of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from nasdsl.compiler import expr, syntax
from nasdsl.compiler.decision import FixedUnits, Units
from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame, join
from nasdsl.compiler.expr import Expr, Symbol
from nasdsl.compiler.ops.operator import REQUIRED, Operator, Param
from nasdsl.compiler.source import Span

Evaluate = Callable[[syntax.Expr, Frame, str], Any]

SHARED_ARGUMENTS = ("share",)
"""Arguments that every operator takes."""


def _named(node: syntax.Call, names: tuple[str, ...], owner: str, positional: bool) -> dict[str, syntax.Expr]:
    """Each argument's expression by the name of its parameter."""
    out: dict[str, syntax.Expr] = {}
    for position, item in enumerate(node.arguments or ()):
        if isinstance(item, syntax.Let | syntax.Require):
            raise error("misplaced", "an argument is a value", item.span)
        if isinstance(item, syntax.Named):
            if not isinstance(item.key, syntax.Name):
                raise error("bad-argument", "an argument's name is a word", item.key.span)
            key, value, place = item.key.name, item.value, item.key.span
        elif positional and position < len(names):
            key, value, place = names[position], item, item.span
        elif position == 0 and names:
            key, value, place = names[0], item, item.span
        elif isinstance(item, syntax.Name):
            key, value, place = item.name, item, item.span
        else:
            takes = ", ".join(names) or "no arguments"
            raise error("unnamed-argument", "only the first argument may stand without a name", item.span, help=f"{owner} takes {takes}")
        if key not in names:
            takes = ", ".join(names) or "no arguments"
            raise error("unknown-argument", f"{owner} has no parameter `{key}`", place, "not a parameter", help=suggest(key, names) or f"it takes {takes}")
        if key in out:
            raise error("duplicate", f"the argument `{key}` stands here twice", place)
        out[key] = value
    return out


def bind_formals(
    formals: tuple[syntax.Formal, ...],
    node: syntax.Call,
    frame: Frame,
    path: str,
    evaluate: Evaluate,
    owner: str,
    positional: bool = False,
) -> tuple[dict[str, Any], dict[str, Span]]:
    """The values of the arguments of an operator or function of the file. Defaults are evaluated by its own frame later: left out here."""
    names = tuple(formal.name.name for formal in formals)
    given = _named(node, names, owner, positional)
    values = {name: evaluate(value, frame, join(path, name)) for name, value in given.items()}
    missing = [f.name.name for f in formals if f.default is None and f.name.name not in values]
    if missing:
        raise error("missing-argument", f"{owner} needs `{'`, `'.join(missing)}`", node.span)
    for formal in formals:
        if formal.name.name not in values and formal.default is not None:
            values[formal.name.name] = evaluate(formal.default, frame, join(path, formal.name.name))
    return values, {name: value.span for name, value in given.items()}


def bind_arguments(operator: Operator, node: syntax.Call, frame: Frame, path: str, evaluate: Evaluate) -> tuple[dict[str, Any], dict[str, Span]]:
    """The values of the arguments of an operator of the catalogue, checked against its parameters' types, with defaults filled in."""
    if node.body is not None:
        raise error("misplaced", f"`{operator.name}` takes no body in braces", node.body.span)
    names = tuple(p.name for p in operator.params)
    given = _named(node, (*names, *SHARED_ARGUMENTS), f"`{operator.name}`", positional=False)
    values: dict[str, Any] = {}
    for param in operator.params:
        if param.name in given:
            value = evaluate(given[param.name], frame, join(path, param.name))
            values[param.name] = checked(value, param, given[param.name].span, frame, operator.name)
        elif (default := frame.scope.find(f"default {param.name}")) is not None:
            values[param.name] = checked(default.value, param, default.span or node.span, frame, operator.name)
        elif param.default is REQUIRED:
            raise error("missing-argument", f"`{operator.name}` needs `{param.name}`", node.span, help=param.doc)
        else:
            values[param.name] = param.default
    if "share" in given:
        values["share"] = evaluate(given["share"], frame, join(path, "share"))
    return values, {name: value.span for name, value in given.items()}


def checked(value: Any, param: Param, span: Span, frame: Frame, owner: str) -> Any:
    """The value in the form that the operator's rules expect.

    Raises:
        CompileError: the value, or one of the values that a decision may give it, is not of the parameter's type.
    """
    if isinstance(value, Units | FixedUnits) and param.type not in ("width", "widths"):
        raise error("not-searchable", f"`{param.name}` of `{owner}` cannot be search units", span)
    if isinstance(value, expr.Case):
        for option in value.values:
            _check_plain(option, param, span, frame, owner)
        return value
    if isinstance(value, Expr):
        return value
    return _check_plain(value, param, span, frame, owner)


def _check_plain(value: Any, param: Param, span: Span, frame: Frame, owner: str) -> Any:
    if isinstance(value, Symbol) and value.word in param.choices:
        return value
    if param.type == "widths":
        if not isinstance(value, v.Record):
            raise _wrong(value, param, span, frame, "a record such as `{ 3: 24, 5: 24 }`")
        return {key: checked(width, Param(param.name, "width"), span, frame, owner) for key, width in _number_keys(value, span).items()}
    if param.type == "list":
        if not isinstance(value, tuple):
            raise _wrong(value, param, span, frame, "a list")
        return value
    if param.type == "symbol":
        if not isinstance(value, Symbol) or (param.choices and value.word not in param.choices):
            word = value.word if isinstance(value, Symbol) else ""
            help = suggest(word, param.choices) or "one of " + ", ".join(f"`{c}`" for c in param.choices)
            shown = f"`{word}`" if word else v.describe(value)
            raise error("bad-argument", f"`{param.name}` of `{owner}` cannot be {shown}", span, help=help)
        return value
    test, words = _TYPES[param.type]
    if not test(value):
        raise _wrong(value, param, span, frame, words)
    return value


def _number_keys(record: v.Record, span: Span) -> Mapping[Any, Any]:
    for key in record.entries:
        if not isinstance(key, int) or isinstance(key, bool) or key < 1 or key % 2 == 0:
            raise error("bad-key", f"a kernel size is an odd number, and this is {v.show(key)}", record.span or span)
    return record.entries


def _wrong(value: Any, param: Param, span: Span, frame: Frame, words: str) -> Exception:
    if isinstance(value, Symbol):
        return error("unknown-name", f"no value named `{value.word}`", span, f"`{param.name}` needs {words}", help=suggest(value.word, frame.scope))
    return error("bad-argument", f"`{param.name}` needs {words}, and this is {v.describe(value)}", span, help=param.doc)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "int": (lambda x: _is_whole(x) and x >= 0, "a whole number"),
    "positive": (lambda x: _is_whole(x) and 1 <= x <= 1 << 24, "a positive whole number"),
    "odd": (lambda x: _is_whole(x) and x >= 1 and x % 2 == 1 and x < 1 << 12, "an odd whole number"),
    "number": (v.is_number, "a number"),
    "bool": (lambda x: isinstance(x, bool), "`true` or `false`"),
    "width": (lambda x: isinstance(x, Units | FixedUnits) or (_is_whole(x) and 0 <= x <= 1 << 24), "a width: a whole number or `units(n)`"),
    "scale": (lambda x: isinstance(x, int | Fraction) and not isinstance(x, bool) and 0 < x <= 1, "a scale such as 1/4"),
    "string": (lambda x: isinstance(x, str), "a string"),
    "any": (lambda x: True, "a value"),
}
