"""What a file can say, from the compiler's records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nasdsl.compiler import bound, measures, ops
from nasdsl.compiler.bind import library
from nasdsl.compiler.constructs import CONSTRUCTS
from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.elaborate.forms import FORMS
from nasdsl.compiler.elaborate.functions import FUNCTIONS
from nasdsl.compiler.example import Example
from nasdsl.compiler.measures.measure import Measure
from nasdsl.compiler.ops.operator import REQUIRED, Operator, Param
from nasdsl.reference.entry import Entry, Row


def entries() -> Iterator[Entry]:
    """Everything, in the order of the reference. Where a form has the name of an operator of the catalogue, the form is
    what a file means."""
    yield from map(of_construct, CONSTRUCTS)
    yield from map(of_function, FUNCTIONS.values())
    yield from map(of_form, FORMS.values())
    for family in ops.FAMILIES:
        group = (family.__doc__ or "").splitlines()[0].rstrip(".")
        yield from (of_operator(one, group) for one in family.OPERATORS if one.name not in FORMS)
    yield from (of_operator(one, f"Of the package {one.where}") for one in ops.plugins().values())
    yield from map(of_library, library.OPERATORS)
    yield from map(of_measure, [*measures.BUILT_IN.values(), *measures.plugins().values()])


def of_construct(one: Construct) -> Entry:
    words = tuple(Row(name, doc=doc) for name, doc in one.bound)
    manual = one.manual
    return Entry(
        one.name,
        "construct",
        one.group,
        manual.signature,
        manual.doc,
        manual.text,
        bound=words,
        example=manual.example,
        also=one.also,
    )


def of_function(one: bound.Function) -> Entry:
    manual = one.manual
    assert manual is not None, one.name
    return Entry(one.name, "function", "", manual.signature, manual.doc, manual.text, example=manual.example)


ROLES = {"value": "value", "number": "number", "step": "operator", "rule": "fusion"}


def of_form(one: bound.Form) -> Entry:
    rows = tuple(
        Row(
            param.name,
            " | ".join((ROLES[param.role], *param.words)),
            doc=param.doc,
            needed=bool(param.missing),
        )
        for param in one.parameters
        if param.name != "operator"  # a keyword, so that it only stands bare
    )
    if any(param.name == "operator" for param in one.parameters):
        doc = "what is applied, in place of text in braces"
        rows = (Row("bare", "operator", doc=doc), *rows)
    if one.rest:
        rows = (Row("bare", "operators, tensors, lists", doc="any number of them"), *rows)
    written = [row.name for row in rows if row.name != "bare"]
    first = ["a", "b", "..."] if one.rest else []
    signature = f"{one.name}({', '.join([*first, *written])})"
    if one.body:
        within = f"({', '.join(written)})" if written and any(row.needed for row in rows) else ""
        signature = f"{one.name}{within} {{ steps }}" + (f", {one.name}(operator)" if not within else "")
    words = tuple(Row(name, doc=f"the {name} of the branch") for name in one.names)
    return Entry(one.name, "form", "", signature, one.doc, one.text, rows, words, one.example)


def of_operator(one: Operator, group: str) -> Entry:
    return Entry(
        one.name,
        "operator",
        group,
        ops.signature(one),
        one.doc,
        rows=tuple(map(_parameter, one.params)),
        example=one.example,
    )


KINDS = {
    "any": "number | list",
    "bool": "true | false",
    "int": "whole number",
    "positive": "positive whole number",
    "odd": "odd number",
    "symbol": "word",
    "width": "number | units",
    "widths": "record of widths",
}
"""What a parameter may be, in words of the language."""


def _parameter(param: Param) -> Row:
    needed = param.default is REQUIRED
    kind = " | ".join(param.choices) if param.choices else KINDS.get(param.type, param.type)
    if not param.choices and (param.low is not None or param.above is not None or param.high is not None):
        kind = f"{kind} {_bounds(param)}"
    default = "" if needed else ops.written(param.default)
    return Row(param.name, kind, default, param.doc, needed)


def _bounds(param: Param) -> str:
    """What a number may be, in words."""
    low, high = param.low, param.high
    if param.above is not None:
        below = "" if high is None else f", at most {ops.written(high)}"
        return f"above {ops.written(param.above)}{below}"
    if low is not None and high is not None:
        return f"{ops.written(low)}..{ops.written(high)}"
    return f"from {ops.written(low)}" if low is not None else f"to {ops.written(high)}"


_EXAMPLE = re.compile(r" ?Example of (\d+) architectures: (.*)")


def of_library(name: str) -> Entry:
    item = library.texts()[name]
    text = item.span.comment
    shown = _EXAMPLE.search(text)
    text = _EXAMPLE.sub("", text)
    doc = first_sentence(text)
    rows = tuple(
        Row(
            formal.name.name,
            "" if formal.allowed is None else _plain(formal.allowed.span.text),
            "" if formal.default is None else _plain(formal.default.span.text),
            needed=formal.default is None,
        )
        for formal in item.formals
    )
    return Entry(
        name,
        "library",
        library.OPERATORS[name],
        f"{name}({', '.join(_plain(formal.span.text) for formal in item.formals)})",
        doc,
        text[len(doc) :].lstrip(". "),
        rows,
        example=None if shown is None else Example(shown[2], int(shown[1])),
        source=item.span.text,
    )


def _plain(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z0-9)])\. ", text)[0].rstrip(".")


def of_measure(one: Measure) -> Entry:
    made = f"Read from a file: {one.made_with}." if one.made_with else ""
    unit = f" in {one.unit}" if one.unit else ""
    doc = one.doc.rstrip(".")
    return Entry(one.name, "measure", "", f"require {one.name} <= ...", f"{doc}{unit}", made)


def named(known: Iterable[Entry], name: str) -> list[Entry]:
    """The entries of that name, or where there are none those that it is another word for."""
    listed = list(known)
    return [one for one in listed if one.name == name] or [one for one in listed if name in one.also]
