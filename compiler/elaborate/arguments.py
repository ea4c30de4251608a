"""Arguments get their values: defaults and types of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.bind.arguments import BODY
from nasdsl.compiler.bind.messages import MOST_NAMED, no_list_of_allowed, no_value, one_of
from nasdsl.compiler.decision import FixedUnits, Units
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error, suggest
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Binding, Frame, Scope, each, join
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.operator import REQUIRED, Operator, Param
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import Kind, Symbol
from nasdsl.compiler.values.tree import Case, Expr, apply, decisions_of, kinds_of, options

Evaluate = Callable[[bound.Expr, Frame, str], Any]

NOTHING: Mapping[str, Binding] = MappingProxyType({})


def bind_formals(
    formals: tuple[bound.Formal, ...],
    given: Mapping[str, bound.Expr],
    frame: Frame,
    path: str,
    evaluate: Evaluate,
    owner: str,
    home: Frame,
    preset: Mapping[str, Binding] = NOTHING,
    body: bound.Body | None = None,
    known: Mapping[str, Any] = MappingProxyType({}),
    decided: set[str] | None = None,
) -> dict[str, Any]:
    """The values of the arguments of an operator, function or fusion of the file; defaults and what is allowed see the
    names of `home`, where it stands. Values that are preset go before defaults; those that are known need no
    evaluation. The names of defaults that decide something are added to `decided`.
    """
    made = each([partial(evaluate, value, frame, join(path, name)) for name, value in given.items()])
    values = {**known, **dict(zip(given, made, strict=True))}
    if body is not None:
        values[BODY] = v.Text(body, frame, join(path, BODY), own_input=True)
    if len(values) < len(formals):
        own = frame.but(scope=Scope(home.scope))
        for name, value in values.items():
            own.scope.bind(name, value)
        for formal in formals:
            if formal.name not in values and formal.default is not None:
                found, made_before = preset.get(formal.name), len(frame.builder.made)
                value = evaluate(formal.default, own, join(path, formal.name)) if found is None else found.value
                values[formal.name] = value
                if decided is not None and len(frame.builder.made) > made_before:
                    decided.add(formal.name)
                own.scope.bind(formal.name, value)
    for formal in formals:
        name = formal.name
        if formal.allowed is not None and name in values:
            items = evaluate(formal.allowed, frame.but(scope=Scope(home.scope)), join(path, name))
            place = given[name].span if name in given else formal.span
            if name not in given and name in preset:
                place = preset[name].span or place
            _check_allowed(values[name], formal, items, place, frame, owner)
    return values


def _check_allowed(value: Any, formal: bound.Formal, items: Any, place: Span, frame: Frame, owner: str) -> None:
    """That an argument is among the values that its parameter allows: each that a decision may give it, each of a list.

    Raises:
        CompileError: it is not, or the parameter does not say so by a list.
    """
    assert formal.allowed is not None
    if not isinstance(items, tuple) or any(isinstance(item, Expr) for item in items):
        raise CompileError([no_list_of_allowed(formal.allowed.span, "operator f(kind in [a, b] = a)")])
    listed = isinstance(value, tuple | v.Guarded)
    name, shown = formal.name, [v.show(item) for item in items]
    among = ", ".join(shown) if len(shown) <= MOST_NAMED else " ".join(formal.allowed.span.text.split())
    help = f"each item of `{name}` is one of {among}" if listed else f"`{name}` is one of {among}"
    for one in [item for item, _ in value.items] if isinstance(value, v.Guarded) else value if listed else (value,):
        possible = options(one) if isinstance(one, Expr) else (one,)
        bad = [option for option in possible or () if not any(_same(option, item) for item in items)]
        if possible is not None and not bad:
            continue
        what = "some of its values" if not bad else min(map(_named, bad))
        near = suggest(bad[0].word, shown) if len(bad) == 1 and isinstance(bad[0], Symbol) else ""
        found = Diagnostic("bad-argument", f"`{name}` of {owner} cannot be {what}", place, help=near or help)
        if not isinstance(one, Expr):
            raise CompileError([found])
        if isinstance(one, Case) and not one.decisions & decisions_of(frame.present):
            raise CompileError([found])
        frame.builder.prove(expr.either(*[expr.equal(one, item) for item in items]), frame, found)


def _named(value: Any) -> str:
    plain = v.is_number(value) or isinstance(value, bool | Symbol | str)
    return f"`{v.show(value)}`" if plain else v.describe(value)


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def bind_arguments(
    operator: Operator, given: Mapping[str, bound.Expr], span: Span, frame: Frame, path: str, evaluate: Evaluate
) -> dict[str, Any]:
    """The values of the arguments of an operator of the catalogue, checked against its parameters' types, with
    defaults filled in.
    """

    def value_of(param: Param) -> Any:
        if param.name in given:
            value = evaluate(given[param.name], frame, join(path, param.name))
            return checked(value, param, given[param.name].span, frame, operator.name)
        return default_of(param, span, frame, operator.name)

    made = each([partial(value_of, param) for param in operator.params])
    values: dict[str, Any] = {param.name: value for param, value in zip(operator.params, made, strict=True)}
    if "share" in given and "share" not in values:
        values["share"] = evaluate(given["share"], frame, join(path, "share"))
        if not isinstance(values["share"], Symbol):
            message = "`share` is `weights`, `none` or a word that several steps have"
            transforms = isinstance(values["share"], v.Record) and "transform" in {p.name for p in operator.params}
            help = "smaller kernels are made of larger ones with `transform: true`" if transforms else ""
            raise error("bad-argument", message, given["share"].span, help=help)
    return values


def default_of(param: Param, span: Span, frame: Frame, owner: str) -> Any:
    """The value of a parameter that a call does not give: what the section `defaults` says, else the operator's own."""
    found = frame.builder.defaults.get(param.name)
    if found is None and param.default is REQUIRED:
        message = f"`{param.name}` of `{owner}` has no value yet: the section `defaults` stands behind this"
        raise error("missing-argument", message, span, help="give it here, or move `defaults` before it")
    return param.default if found is None else checked(found.value, param, found.span or span, frame, owner)


def checked(value: Any, param: Param, span: Span, frame: Frame, owner: str) -> Any:
    """The value in the form that the operator's rules expect.

    Raises:
        CompileError: the value, or one of the values that a decision may give it, is not of the parameter's type.
    """
    if isinstance(value, Units | FixedUnits) and param.type not in _UNITS:
        takers = [f"`{p.name}` of `{o.name}`" for o in CATALOGUE.values() for p in o.params if p.type in _UNITS]
        usage = f"`oneof(...)` chooses a number; search units are for {', '.join(takers)}"
        raise error("not-searchable", f"`{param.name}` of `{owner}` cannot be search units", span, help=usage)
    if isinstance(value, Expr):
        _check_options(value, param, span, frame, owner)
        return value
    return _check_plain(value, param, span, frame, owner)


def _check_options(value: Expr, param: Param, span: Span, frame: Frame, owner: str) -> None:
    """That a value is of the parameter's type whatever is chosen: told at once, or something to prove."""
    kind = _TYPES[param.type].kind
    kinds = kinds_of(value)
    if kind is not None and kind not in kinds and not (param.choices and "word" in kinds):
        raise _wrong(value, param, span, frame, _TYPES[param.type].words)
    problems: list[Diagnostic] = []
    for option in dict.fromkeys(value.values) if isinstance(value, Case) else ():
        try:
            _check_plain(option, param, span, frame, owner)
        except CompileError as wrong:
            problems += wrong.diagnostics
    words = [expr.equal(value, Symbol(word)) for word in param.choices]
    holds = expr.either(*words) if param.type == "symbol" else expr.either(_fits(value, param), *words)
    meant = "a word that it knows" if param.choices else _meant(param)
    help = "one of " + ", ".join(f"`{word}`" for word in param.choices) if param.choices else param.doc
    message = f"`{param.name}` of `{owner}` must be {meant}, whatever is chosen"
    alone = len(problems) == 1
    told = problems[0] if alone else Diagnostic("bad-argument", message, span, help=help)
    frame.builder.prove(holds, frame, told, () if alone else (value,))


def _fits(value: Value, param: Param) -> Value:
    """The condition under which a value is of the parameter's type and within its bounds."""
    wanted = _TYPES[param.type]
    kind: Value = True if wanted.kind is None else expr.is_kind(value, wanted.kind)
    if kind is False or wanted.kind != "number":
        return kind
    bounds: list[Value] = []
    if wanted.whole:
        bounds.append(expr.whole(value))
    if wanted.odd:
        bounds.append(expr.equal(apply("mod", value, 2), 1))
    for low in (wanted.low, param.low):
        bounds.append(True if low is None else expr.at_most(low, value))
    for high in (wanted.high, param.high):
        bounds.append(True if high is None else expr.at_most(value, high))
    for above in (wanted.above, param.above):
        bounds.append(True if above is None else expr.less(above, value))
    return expr.both(kind, *bounds)


def _meant(param: Param) -> str:
    """What a value of the parameter is, in the user's words."""
    words = _TYPES[param.type].words
    if param.above is not None:
        words += f" above {v.show(param.above)}"
    if param.low is not None:
        return f"{words} from {v.show(param.low)} to {v.show(param.high)}"
    return words if param.high is None else f"{words} and at most {v.show(param.high)}"


def _check_plain(value: Any, param: Param, span: Span, frame: Frame, owner: str) -> Any:
    if isinstance(value, Symbol) and value.word in param.choices:
        return value
    if param.type == "width" and isinstance(value, Units | FixedUnits):
        return value
    if param.type == "widths":
        if not isinstance(value, v.Record):
            raise _wrong(value, param, span, frame, _TYPES["widths"].words)
        return {
            key: checked(width, Param(param.name, "width"), span, frame, owner)
            for key, width in _number_keys(value, span).items()
        }
    if param.type == "symbol":
        if not isinstance(value, Symbol) or (param.choices and value.word not in param.choices):
            word = value.word if isinstance(value, Symbol) else ""
            help = one_of(word, param.choices)
            shown = f"`{word}`" if word else v.describe(value)
            raise error("bad-argument", f"`{param.name}` of `{owner}` cannot be {shown}", span, help=help)
        return value
    wanted = _TYPES[param.type]
    exact = not wanted.exact or isinstance(value, int | Fraction)
    if not exact or (wanted.kind is not None and v.kind_of(value) != wanted.kind) or _fits(value, param) is not True:
        raise _wrong(value, param, span, frame, _meant(param))
    return value


def _number_keys(record: v.Record, span: Span) -> Mapping[Any, Any]:
    for key in record.entries:
        if not isinstance(key, int) or isinstance(key, bool) or key < 1 or key % 2 == 0:
            raise error("bad-key", f"a kernel size is an odd number, and this is {v.show(key)}", record.span or span)
    return record.entries


def _wrong(value: Any, param: Param, span: Span, frame: Frame, words: str) -> Exception:
    if isinstance(value, Symbol) and not v.is_none(value):
        names = (*frame.scope, *param.choices)
        return CompileError([no_value(value.word, value.span or span, names, f"`{param.name}` needs {words}")])
    if isinstance(value, int) and value > MOST_WIDE and param.type in ("positive", "width"):
        return error("bad-argument", f"`{param.name}` is at most {MOST_WIDE:,}", span, f"is {value:,}", help=param.doc)
    help = param.doc
    if isinstance(value, v.Tensor) and param.name in ("out", "to"):
        help = f"write `{' '.join(span.text.split())}.{'width' if param.name == 'out' else 'scale'}`"
    return error("bad-argument", f"`{param.name}` needs {words}, and this is {v.describe(value)}", span, help=help)


_UNITS = ("width", "widths")
"""Types of parameters that search units may stand for."""

MOST_WIDE = 1 << 24


@dataclass(frozen=True)
class _Type:
    """A type of parameters: what a message calls it, the kind of its values (None: any), and of numbers the range."""

    words: str
    kind: Kind | None = "number"
    whole: bool = False
    odd: bool = False
    exact: bool = False
    low: Any = None
    high: Any = None
    above: Any = None


_TYPES: Mapping[str, _Type] = {
    "int": _Type("a whole number", whole=True, exact=True, low=0, high=1 << 62),
    "positive": _Type("a positive whole number", whole=True, exact=True, low=1, high=MOST_WIDE),
    "odd": _Type("an odd whole number", whole=True, odd=True, exact=True, low=1, high=(1 << 12) - 1),
    "number": _Type("a number"),
    "bool": _Type("`true` or `false`", "truth"),
    "width": _Type("a width: a whole number or `units(n)`", whole=True, exact=True, low=0, high=MOST_WIDE),
    "widths": _Type("a record such as `{ 3: 24, 5: 24 }`", "record"),
    "scale": _Type("a scale such as 1/4", exact=True, above=0, high=1),
    "symbol": _Type("a word that it knows", "word"),
    "list": _Type("a list", "list"),
    "string": _Type("a string", "text"),
    "any": _Type("a value", None),
}
