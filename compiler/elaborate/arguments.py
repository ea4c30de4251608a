"""Arguments meet parameters: names, defaults and types of a call."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.decision import FixedUnits, Units
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error, suggest
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Binding, Frame, Scope, each, join
from nasdsl.compiler.elaborate.habits import near, near_argument
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.operator import REQUIRED, Operator, Param
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Expr, Value
from nasdsl.compiler.values.plain import Kind, Symbol

Evaluate = Callable[[syntax.Expr, Frame, str], Any]

SHARED_ARGUMENTS = ("share",)
"""Arguments that every operator takes."""


NOTHING: Mapping[str, Binding] = MappingProxyType({})

BODY = "body"
"""The parameter of an operator that text in braces after a call goes to."""


def body_problems(node: syntax.Call, names: Container[str], given: Container[str], owner: str) -> list[Diagnostic]:
    """What is wrong with text in braces after a call."""
    assert node.body is not None
    if BODY not in names:
        return [Diagnostic("misplaced", f"{owner} takes no body in braces", node.body.span)]
    if BODY in given:
        return [Diagnostic("duplicate", f"the argument `{BODY}` stands here twice", node.body.span)]
    return []


def with_shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters of an operator of the file, and the arguments that every operator takes."""
    return (*names, *[name for name in SHARED_ARGUMENTS if name not in names])


def without_body(needed: tuple[str, ...], node: syntax.Call) -> tuple[str, ...]:
    """The parameters that arguments have to fill: text in braces fills one."""
    return needed if node.body is None else tuple(name for name in needed if name != BODY)


def match_arguments(
    node: syntax.Call, names: tuple[str, ...], needed: tuple[str, ...], owner: str, positional: bool = False
) -> tuple[dict[str, syntax.Expr], list[Diagnostic]]:
    """Each argument's expression by the name of its parameter, and every mistake that shows without its value."""
    out: dict[str, syntax.Expr] = {}
    problems: list[Diagnostic] = []
    takes = f"{owner} takes {', '.join(names)}" if names else f"{owner} takes no arguments"
    for position, item in enumerate(node.arguments or ()):
        if isinstance(item, syntax.Let | syntax.Require):
            problems.append(Diagnostic("misplaced", "an argument is a value", item.span))
            continue
        if isinstance(item, syntax.Named):
            if not isinstance(item.key, syntax.Name):
                problems.append(Diagnostic("bad-argument", "an argument's name is a word", item.key.span, help=takes))
                continue
            key, value, place = item.key.name, item.value, item.key.span
        elif position < (len(names) if positional else min(1, len(names))):
            key, value, place = names[position], item, item.span
        elif isinstance(item, syntax.Name) and item.name in names:
            key, value, place = item.name, item, item.span
        elif positional or not names:
            count = (
                f"{owner} takes {len(names)} argument{'s' if len(names) > 1 else ''}: {', '.join(names)}"
                if names
                else takes
            )
            problems.append(Diagnostic("wrong-count", count, item.span, "one too many"))
            continue
        else:
            free = next((name for name in names if name not in out), "name")
            text = " ".join(item.span.text.split())
            help = f"write `{free}: {text}`" if len(text) < 30 and "\n" not in item.span.text else ""
            problems.append(
                Diagnostic(
                    "unnamed-argument",
                    "only the first argument may stand without a name",
                    item.span,
                    help="; ".join(filter(None, (help, takes))),
                )
            )
            continue
        if key not in names:
            help = near_argument(key, names) or takes
            problems.append(
                Diagnostic("unknown-argument", f"{owner} has no parameter `{key}`", place, "not a parameter", help=help)
            )
        elif key in out:
            problems.append(
                Diagnostic(
                    "duplicate",
                    f"the argument `{key}` stands here twice",
                    place,
                    others=(Label(out[key].span, "also here"),),
                )
            )
        else:
            out[key] = value
    missing = [name for name in needed if name not in out]
    if missing and not problems:  # an argument with a mistake may be the one that is missing
        words = "`, `".join(missing)
        problems.append(
            Diagnostic(
                "missing-argument",
                f"{owner} needs `{words}`",
                node.function.span,
                help=f"write `{_example(node, names, missing)}`",
            )
        )
    return out, problems


def _example(node: syntax.Call, names: tuple[str, ...], missing: list[str]) -> str:
    """The call as it would be with what is missing."""
    given = [" ".join(item.span.text.split()) for item in node.arguments or ()]
    first = missing[0] == names[0] and not any(not isinstance(item, syntax.Named) for item in node.arguments or ())
    more = ["..." if first and name == names[0] else f"{name}: ..." for name in missing]
    text = f"{node.function.name}({', '.join([*more, *given] if first else [*given, *more])})"
    return text if len(text) < 80 else f"{node.function.name}({', '.join(more)}, ...)"


def formals_of(formals: tuple[syntax.Formal, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All parameters, and those without a default."""
    return tuple(f.name.name for f in formals), tuple(f.name.name for f in formals if f.default is None)


def parameters_of(operator: Operator, defaults: Container[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All parameters of an operator of the catalogue, and those that a call has to give."""
    names = tuple(p.name for p in operator.params)
    needed = tuple(p.name for p in operator.params if p.default is REQUIRED and p.name not in defaults)
    return (*names, *SHARED_ARGUMENTS), needed


def bind_formals(
    formals: tuple[syntax.Formal, ...],
    node: syntax.Call,
    frame: Frame,
    path: str,
    evaluate: Evaluate,
    owner: str,
    home: Frame,
    positional: bool = False,
    preset: Mapping[str, Binding] = NOTHING,
) -> tuple[dict[str, Any], dict[str, Span]]:
    """The values of the arguments of an operator, function or fusion of the file; defaults and what is allowed see the
    names of `home`, where it stands. Values that are preset go before defaults.
    """
    names, needed = formals_of(formals)
    if not positional:
        names = with_shared(names)
    given, problems = match_arguments(node, names, without_body(needed, node), owner, positional)
    if node.body is not None:
        problems += body_problems(node, names, given, owner)
    if problems:
        raise CompileError(problems)
    made = each([partial(evaluate, value, frame, join(path, name)) for name, value in given.items()])
    values = dict(zip(given, made, strict=True))
    if node.body is not None:
        values[BODY] = v.Text(node.body, frame, join(path, BODY), own_input=True)
    if len(values) < len(formals):
        own = frame.but(scope=Scope(home.scope))
        for name, value in values.items():
            own.scope.bind(name, value)
        for formal in formals:
            if formal.name.name not in values and formal.default is not None:
                found = preset.get(formal.name.name)
                value = evaluate(formal.default, own, join(path, formal.name.name)) if found is None else found.value
                values[formal.name.name] = value
                own.scope.bind(formal.name.name, value)
    for formal in formals:
        name = formal.name.name
        if formal.allowed is not None and name in values:
            items = evaluate(formal.allowed, frame.but(scope=Scope(home.scope)), join(path, name))
            place = given[name].span if name in given else formal.name.span
            if name not in given and name in preset:
                place = preset[name].span or place
            _check_allowed(values[name], formal, items, place, frame, owner)
    return values, {name: value.span for name, value in given.items()}


def _check_allowed(value: Any, formal: syntax.Formal, items: Any, place: Span, frame: Frame, owner: str) -> None:
    """That an argument is among the values that its parameter allows: each that a decision may give it, each of a list.

    Raises:
        CompileError: it is not, or the parameter does not say so by a list.
    """
    assert formal.allowed is not None
    if not isinstance(items, tuple) or any(isinstance(item, Expr) for item in items):
        what = "after `in` stands the list of allowed values"
        raise error("not-a-list", what, formal.allowed.span, help="write `operator f(kind in [a, b] = a)`")
    listed = isinstance(value, tuple | v.Guarded)
    name, shown = formal.name.name, [v.show(item) for item in items]
    among = ", ".join(shown) if len(shown) <= MOST_NAMED else " ".join(formal.allowed.span.text.split())
    help = f"each item of `{name}` is one of {among}" if listed else f"`{name}` is one of {among}"
    for one in [item for item, _ in value.items] if isinstance(value, v.Guarded) else value if listed else (value,):
        possible = expr.options(one) if isinstance(one, Expr) else (one,)
        bad = [option for option in possible or () if not any(_same(option, item) for item in items)]
        if possible is not None and not bad:
            continue
        what = "some of its values" if not bad else min(map(_named, bad))
        near = suggest(bad[0].word, shown) if len(bad) == 1 and isinstance(bad[0], Symbol) else ""
        found = Diagnostic("bad-argument", f"`{name}` of {owner} cannot be {what}", place, help=near or help)
        if not isinstance(one, Expr):
            raise CompileError([found])
        if isinstance(one, expr.Case) and not one.decisions & expr.decisions_of(frame.present):
            raise CompileError([found])
        frame.builder.prove(expr.either(*[expr.equal(one, item) for item in items]), frame, found)


def _named(value: Any) -> str:
    plain = v.is_number(value) or isinstance(value, bool | Symbol | str)
    return f"`{v.show(value)}`" if plain else v.describe(value)


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def bind_arguments(
    operator: Operator, node: syntax.Call, frame: Frame, path: str, evaluate: Evaluate
) -> tuple[dict[str, Any], dict[str, Span]]:
    """The values of the arguments of an operator of the catalogue, checked against its parameters' types, with
    defaults filled in.
    """
    if node.body is not None:
        raise error("misplaced", f"`{operator.name}` takes no body in braces", node.body.span)
    defaults = {p.name: found for p in operator.params if (found := frame.builder.defaults.get(p.name)) is not None}
    given, problems = match_arguments(node, *parameters_of(operator, defaults), f"`{operator.name}`")
    if problems:
        raise CompileError(problems)

    def value_of(param: Param) -> Any:
        if param.name in given:
            value = evaluate(given[param.name], frame, join(path, param.name))
            return checked(value, param, given[param.name].span, frame, operator.name)
        return default_of(param, node.span, frame, operator.name)

    made = each([partial(value_of, param) for param in operator.params])
    values: dict[str, Any] = {param.name: value for param, value in zip(operator.params, made, strict=True)}
    if "share" in given:
        values["share"] = evaluate(given["share"], frame, join(path, "share"))
    return values, {name: value.span for name, value in given.items()}


def default_of(param: Param, span: Span, frame: Frame, owner: str) -> Any:
    """The value of a parameter that a call does not give: what the section `defaults` says, else the operator's own."""
    found = frame.builder.defaults.get(param.name)
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
    kinds = expr.kinds_of(value)
    if kind is not None and kind not in kinds and not (param.choices and "word" in kinds):
        raise _wrong(value, param, span, frame, _TYPES[param.type].words)
    problems: list[Diagnostic] = []
    for option in dict.fromkeys(value.values) if isinstance(value, expr.Case) else ():
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
        bounds.append(expr.equal(expr.apply("mod", value, 2), 1))
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
            help = suggest(word, param.choices) or "one of " + ", ".join(f"`{c}`" for c in param.choices)
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
        return error(
            "unknown-name",
            f"no value named `{value.word}`",
            value.span or span,
            f"`{param.name}` needs {words}",
            help=near(value.word, frame.scope),
        )
    if isinstance(value, int) and value > MOST_WIDE and param.type in ("positive", "width"):
        return error("bad-argument", f"`{param.name}` is at most {MOST_WIDE:,}", span, f"is {value:,}", help=param.doc)
    return error("bad-argument", f"`{param.name}` needs {words}, and this is {v.describe(value)}", span, help=param.doc)


MOST_NAMED = 12
"""Allowed values that a message names."""

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
