"""Settings sections (`search shrink { ... }`): entries become plain values for whoever reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from nasdsl.compiler import measures, syntax
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.frame import Binding, Builder, Frame, Scope
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import SettingsSection
from nasdsl.compiler.values.expr import Apply, Expr, Total, Value, terms
from nasdsl.compiler.values.plain import Symbol


def read_section(item: syntax.Section, frame: Frame) -> SettingsSection:
    """The entries of a section. Words become strings, ratios floats, `5 epochs` becomes `{"epochs": 5}`, a cost such
    as `1.6e-4 * macs`
    becomes `{"macs": 1.6e-4}`, a limit `macs <= 0.3G` `{"macs": 300000000}`, a call
    `sgd(0.1, momentum: 0.9)` becomes `{"name": "sgd", "args": [0.1], "momentum": 0.9}`."""
    entries: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    for key, entry in named_entries(item):
        entries[key] = plain(evaluate(entry.value, frame, f"{item.kind.name}.{key}"), entry.value.span)
        _note_spans(key, entry, spans)
    name = item.name.name if item.name is not None else ""
    return SettingsSection(
        item.kind.name, name, entries, spans, item.name.span if item.name is not None else item.kind.span
    )


def named_entries(item: syntax.Section) -> Iterator[tuple[str, syntax.Named]]:
    """The entries of a section by their names.

    Raises:
        CompileError: one has no name, or a name stands twice.
    """
    seen: set[str] = set()
    for entry in item.body.items:
        if not isinstance(entry, syntax.Named) or not isinstance(entry.key, syntax.Name):
            raise error("misplaced", f"`{item.kind.name}` holds entries `key: value`", entry.span)
        if entry.key.name in seen:
            raise error("duplicate", f"the entry `{entry.key.name}` stands here twice", entry.key.span)
        seen.add(entry.key.name)
        yield entry.key.name, entry


def read_defaults(item: syntax.Section, frame: Frame) -> dict[str, Binding]:
    """The values that a section `defaults` gives to parameters. They may depend on decisions."""
    found: dict[str, Binding] = {}
    for key, entry in named_entries(item):
        value = evaluate(entry.value, frame, f"defaults.{key}")
        if not isinstance(value, Expr):
            plain(value, entry.value.span)
        found[key] = Binding(value, entry.value.span)
    return found


def _note_spans(path: str, entry: syntax.Named, spans: dict[str, Span]) -> None:
    spans[path] = entry.value.span
    spans[f"{path}:key"] = entry.key.span
    if isinstance(entry.value, syntax.Block):
        for inner in entry.value.items:
            if isinstance(inner, syntax.Named) and isinstance(inner.key, syntax.Name):
                _note_spans(f"{path}.{inner.key.name}", inner, spans)


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
        frame = Frame(Builder(), Scope(), functions={}, settings=True)
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
            node = expression(key, text)
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
