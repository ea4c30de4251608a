"""Settings sections (`search shrink { ... }`): entries become plain values for whoever reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from nasdsl.compiler import bound, measures, syntax
from nasdsl.compiler.bind.base import Declared, Vocabulary
from nasdsl.compiler.bind.binder import Binder
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.frame import Binding, Builder, Frame, Scope
from nasdsl.compiler.elaborate.operations import BUILT_IN_NAMES
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import SettingsSection
from nasdsl.compiler.values.expr import Value, terms
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Apply, Expr, Total


def read_section(item: bound.Section, frame: Frame) -> SettingsSection:
    """The entries of a section. Words become strings, ratios floats, `5 epochs` becomes `{"epochs": 5}`, a cost such
    as `1.6e-4 * macs`
    becomes `{"macs": 1.6e-4}`, a limit `macs <= 0.3G` `{"macs": 300000000}`, a call
    `sgd(0.1, momentum: 0.9)` becomes `{"name": "sgd", "args": [0.1], "momentum": 0.9}`."""
    entries: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    for entry in item.entries:
        value = evaluate(entry.value, frame, f"{item.kind}.{entry.key}")
        entries[entry.key] = plain(value, entry.value.span)
        _note_spans(entry.key, entry.place, entry.value, spans)
    name = item.text.name
    return SettingsSection(
        item.kind, name.name if name is not None else "", entries, spans, name.span if name is not None else item.span
    )


def read_defaults(item: bound.Section, frame: Frame) -> dict[str, Binding]:
    """The values that a section `defaults` gives to parameters. They may depend on decisions."""
    found: dict[str, Binding] = {}
    for entry in item.entries:
        value = evaluate(entry.value, frame, f"defaults.{entry.key}")
        if not isinstance(value, Expr):
            plain(value, entry.value.span)
        found[entry.key] = Binding(value, entry.value.span)
    return found


def _note_spans(path: str, place: Span, value: bound.Expr, spans: dict[str, Span]) -> None:
    spans[path] = value.span
    spans[f"{path}:key"] = place
    if isinstance(value, bound.Record):
        for key, inner in value.entries:
            if isinstance(key, bound.Constant) and isinstance(key.value, Symbol):
                _note_spans(f"{path}.{key.value.word}", key.span, inner, spans)


def plain(value: Any, span: Span) -> Any:
    """The value as Python would write it."""
    if isinstance(value, Symbol):
        return value.word
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, v.Quantity):
        return {value.unit: plain(value.value, span)}
    if isinstance(value, tuple):
        return [plain(item, span) for item in value]
    if isinstance(value, v.Record):
        return {
            key if isinstance(key, str) else v.show(key): plain(inner, span) for key, inner in value.entries.items()
        }
    if isinstance(value, v.SizeValue):
        return [plain(part, span) for part in value.parts]
    if isinstance(value, v.Setting):
        named = {key: plain(inner, span) for key, inner in value.named.items()}
        return {"name": value.name, "args": [plain(inner, span) for inner in value.positional], **named}
    if isinstance(value, Expr):
        return _costs(value, span)
    help = "the path of a part of the network stands in quotes" if isinstance(value, v.Tensor | v.Branches) else ""
    raise error(
        "bad-setting",
        f"a setting is a number, a word, a list or a record, and this is {v.describe(value)}",
        span,
        help=help,
    )


class Weights(dict[str, Any]):
    """Costs with weights, `1.6e-4 * macs`, or one alone. A limit on costs is a plain record."""


def _costs(value: Value, span: Span) -> dict[str, Any]:
    """`1.6e-4 * macs + 1e-6 * params` as weights by cost; `macs <= 0.3G` as a limit by cost."""
    if (
        isinstance(value, Apply)
        and value.function == "le"
        and isinstance(value.args[0], Expr)
        and not isinstance(value.args[1], Expr)
    ):
        ((measure, factor),) = _costs(value.args[0], span).items()
        for derived in measures.BUILT_IN.values():
            if derived.of == (factor, measure):  # as written: FLOPs, perhaps as a share of the whole
                measure, factor = derived.name, 1
        limit = value.args[1] / Fraction(factor)
        return {measure: int(limit) if limit.denominator == 1 else float(limit)}
    out = Weights()
    for term in terms(value):
        if isinstance(term, Total):
            out[term.measure] = 1
        elif (
            isinstance(term, Apply)
            and term.function == "mul"
            and len(term.args) == 2
            and isinstance(term.args[1], Total)
        ):
            out[term.args[1].measure] = plain(term.args[0], span)
        else:
            raise error(
                "bad-setting", "a setting cannot depend on a decision", span, help="costs are written `1.6e-4 * macs`"
            )
    return out


def read_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings given as text from outside a file, `{"train.epochs": "10"}`, as nested records. The name of a file needs
    no quotes there.

    Raises:
        CompileError: a text is no value.
    """
    out: dict[str, Any] = {}
    for key, text in texts.items():
        frame = Frame(Builder(), Scope(), settings=True)
        record = out
        *parents, last = key.split(".")
        for depth, parent in enumerate(parents, 1):
            record = record.setdefault(parent, {})
            if not isinstance(record, dict):
                whole = ".".join(parents[:depth])
                message = f"`{whole}` has a value already and no `{key.removeprefix(whole + '.')}`"
                raise error("bad-setting", message, None, help=f"give `{whole}` as one record: `{whole}={{ ... }}`")
        if _FILE.fullmatch(text):
            record[last] = text
        else:
            binder = Binder(Vocabulary({}, {}, BUILT_IN_NAMES), Declared())
            node = binder.outside(expression(key, text))
            record[last] = plain(evaluate(node, frame, key), node.span)
    return out


_FILE = re.compile(r"[^\s\"'()\[\]{},*+=<>]+\.[A-Za-z][\w-]*")
"""A name with an ending, `runs/neck.safetensors`. A point in a number has a digit behind it."""


def expression(name: str, text: str) -> syntax.Expr:
    """The expression of `-D name=text` or `--set name=text`.

    Raises:
        CompileError: the text is not one expression.
    """
    before = "let value = "
    tree = parse(Source(f"{before}{text}\n", name, begin=len(before)))
    item = tree.items[0] if len(tree.items) == 1 else None
    if not isinstance(item, syntax.Let) or item.formals is not None:
        raise error("bad-value", f"`{text}` is not a value for `{name}`", None)
    return item.value
