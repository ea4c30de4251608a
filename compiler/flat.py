"""A tree as text on one line, with the parentheses that it needs and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import ArgumentError

# How tightly things bind, as in grammar.lark; what binds less than its place asks for stands in parentheses. So does a
# condition in a pipeline, though the grammar can do without: `a -> b if c else d` would be misread.
PIPE, IF, IMPLIES, OR, AND, NOT, COMPARE, RANGE, SIZE, SUM, PRODUCT, MINUS, POWER, POSTFIX = range(14)
_BINARY = {"implies": IMPLIES, "or": OR, "and": AND, "+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER}
SIDES = {  # the levels that an operator asks of its left and its right side
    IMPLIES: (OR, OR),
    OR: (OR, AND),
    AND: (AND, NOT),
    COMPARE: (RANGE, RANGE),
    SUM: (SUM, PRODUCT),
    PRODUCT: (PRODUCT, MINUS),
    POWER: (POSTFIX, MINUS),
}


def level_of(node: syntax.Node) -> int:
    """How tightly a node binds what it is made of."""
    match node:
        case syntax.Binary():
            return _BINARY.get(node.operator, COMPARE)
        case syntax.Unary():
            return NOT if node.operator == "not" else MINUS
        case syntax.Number():
            return MINUS if node.value < 0 else POSTFIX
    return {syntax.Pipe: PIPE, syntax.If: IF, syntax.Range: RANGE, syntax.Size: SIZE}.get(type(node), POSTFIX)


def flat(node: syntax.Node, level: int = PIPE) -> str:
    """The text of a node, in parentheses where it binds less tightly than a level."""
    text = _FLAT[type(node)](node)
    return f"({text})" if level_of(node) < level else text


def _flat_binary(node: syntax.Binary) -> str:
    left, right = SIDES[level_of(node)]
    return flat(node.left, left) + operator_of(node) + flat(node.right, right)


def operator_of(node: syntax.Binary) -> str:
    """The operator with its spaces: none in powers and in ratios such as `1/4`."""
    if node.operator == "^" or (node.operator == "/" and _is_ratio(node)):
        return node.operator
    return f" {node.operator} "


def _is_ratio(node: syntax.Binary) -> bool:
    right = node.right.left if isinstance(node.right, syntax.Binary) and node.right.operator == "^" else node.right
    return all(isinstance(side, syntax.Number) and side.unit is None for side in (node.left, right))


def _flat_range(node: syntax.Range) -> str:
    ends = (node.first, node.last)
    tight = all(
        level_of(end) >= MINUS or (isinstance(end, syntax.Binary) and " " not in operator_of(end)) for end in ends
    )
    dots = ".." if tight else " .. "
    return flat(node.first, SIZE) + dots + flat(node.last, SIZE) + _flat_step(node, SIZE)


def _flat_step(node: syntax.Range, level: int) -> str:
    return "" if node.step is None else f" step {flat(node.step, level)}"


def flat_items(opening: str, items: Sequence[syntax.Node], closing: str) -> str:
    """The text of items between brackets."""
    inside = ", ".join(flat(item) for item in items)
    return f"{{ {inside} }}" if opening == "{" and items else opening + inside + closing


def _flat_call(node: syntax.Call) -> str:
    arguments = "" if node.arguments is None else flat_items("(", node.arguments, ")")
    return node.function.name + arguments + ("" if node.body is None else f" {flat(node.body)}")


def formal_head(node: syntax.Formal) -> str:
    """A parameter of an operator without its default."""
    return node.name.name + ("" if node.allowed is None else f" in {flat(node.allowed)}")


def _flat_formals(formals: tuple[syntax.Formal, ...] | None) -> str:
    return "" if formals is None else flat_items("(", formals, ")")


def head(node: syntax.Expr) -> str:
    """What stands between a keyword and its block, where little may stand without parentheses."""
    if isinstance(node, syntax.Range):
        step = "" if node.step is None else f" step {_head_sum(node.step)}"
        return f"{_head_sum(node.first)}..{_head_sum(node.last)}{step}"
    return _head_sum(node)


_HEAD_LEVELS = ({"+", "-"}, {"*", "/"})
"""The operators that may stand there, weakest first."""


def _head_sum(node: syntax.Expr, level: int = 0) -> str:
    if level == len(_HEAD_LEVELS):
        return f"-{_simple(node.operand)}" if isinstance(node, syntax.Unary) and node.operator == "-" else _simple(node)
    if isinstance(node, syntax.Binary) and node.operator in _HEAD_LEVELS[level]:
        return f"{_head_sum(node.left, level)} {node.operator} {_head_sum(node.right, level + 1)}"
    return _head_sum(node, level + 1)


def _simple(node: syntax.Expr) -> str:
    match node:
        case syntax.Name() | syntax.List() | syntax.Comprehension():
            return flat(node)
        case syntax.Number() if node.unit is None and node.value >= 0:
            return flat(node)
        case syntax.Call() if node.arguments is not None and node.body is None:
            return flat(node)
        case syntax.Field():
            return f"{_simple(node.base)}.{node.name.name}"
        case syntax.Index():
            return f"{_simple(node.base)}[{flat(node.index)}]"
    return f"({flat(node)})"


def _flat_number(node: syntax.Number) -> str:
    text = node.text if _says(node.text, node.value) else _decimal(node.value)
    return text if node.unit is None else f"{text} {node.unit}"


_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?([KMG]?)")


def _says(text: str, value: int | Fraction) -> bool:
    parts = _NUMBER.fullmatch(text)
    if parts is None:
        return False
    whole, places, exponent, suffix = parts.groups(default="")
    scale = int(exponent or 0) - len(places) + " KMG".index(suffix or " ") * 3
    return int(whole + places) * Fraction(10) ** scale == value


def _decimal(value: int | Fraction) -> str:
    """A number that is written as a decimal; one that can't be, such as 1/3, as a ratio."""
    places = 0
    shifted = Fraction(value)
    while shifted.denominator % 2 == 0 or shifted.denominator % 5 == 0:
        shifted *= 10
        places += 1
    if shifted.denominator != 1:
        return str(value)
    digits = str(shifted.numerator)
    if places == 0:
        kept = digits.rstrip("0") or "0"
        return digits if len(digits) <= 15 else f"{kept}e{len(digits) - len(kept)}"
    if places > 6:
        return f"{digits}e-{places}"
    digits = digits.rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}"


def _flat_string(node: syntax.String) -> str:
    if '"' in node.value or "\n" in node.value or "\r" in node.value:
        raise ArgumentError(f"a string of the language can't hold a quote or a line break: {node.value!r}")
    return f'"{node.value}"'


def _flat_space(node: syntax.Space) -> str:
    return f"space {node.name.name} {flat_items('{', node.body, '}')}"


def _flat_derived(node: syntax.Derived) -> str:
    return f"space {node.name.name} = {node.base.name} with {flat_items('{', node.changes, '}')}"


def section_head(node: syntax.Section) -> str:
    """What stands before the block of a section."""
    return node.kind.name if node.name is None else f"{node.kind.name} {node.name.name}"


def _flat_operator(node: syntax.Operator) -> str:
    body = flat(node.body) if isinstance(node.body, syntax.Block) else f"= {flat(node.body)}"
    return f"operator {node.name.name}{_flat_formals(node.formals)} {body}"


_FLAT: dict[type, Callable[[Any], str]] = {
    syntax.Binary: _flat_binary,
    syntax.Bind: lambda n: f"{n.name} in {head(n.source)}",
    syntax.Block: lambda n: flat_items("{", n.items, "}"),
    syntax.Call: _flat_call,
    syntax.Comprehension: lambda n: f"[for {', '.join(flat(b) for b in n.binds)}: {flat(n.body)}]",
    syntax.Derived: _flat_derived,
    syntax.Else: lambda n: "else",
    syntax.Field: lambda n: f"{flat(n.base, POSTFIX)}.{n.name.name}",
    syntax.For: lambda n: f"for {flat(n.bind)} {flat(n.body)}",
    syntax.Formal: lambda n: formal_head(n) + ("" if n.default is None else f" = {flat(n.default)}"),
    syntax.Fusion: lambda n: f"fusion {n.name.name}{_flat_formals(n.formals or None)} {flat(n.body)}",
    syntax.If: lambda n: f"{flat(n.then, IMPLIES)} if {flat(n.condition, IMPLIES)} else {flat(n.otherwise, IF)}",
    syntax.Incoming: lambda n: "in",
    syntax.Index: lambda n: f"{flat(n.base, POSTFIX)}[{flat(n.index)}]",
    syntax.Input: lambda n: f"input {flat(n.value)}",
    syntax.Let: lambda n: f"let {n.name.name}{_flat_formals(n.formals)} = {flat(n.value)}",
    syntax.List: lambda n: flat_items("[", n.items, "]"),
    syntax.Match: lambda n: f"match {head(n.head)} {flat(n.cases)}",
    syntax.Name: lambda n: n.name,
    syntax.Named: lambda n: f"{flat(n.key)}: {flat(n.value)}",
    syntax.Number: _flat_number,
    syntax.Operator: _flat_operator,
    syntax.Param: lambda n: f"param {n.name.name} {'in' if n.choices else '='} {flat(n.value)}",
    syntax.Pin: lambda n: f"{flat(n.place)}: {flat(n.value)}",
    syntax.Pipe: lambda n: " -> ".join(flat(step, IMPLIES) for step in n.steps),
    syntax.Range: _flat_range,
    syntax.Repeat: lambda n: f"repeat {head(n.count)} {flat(n.body)}",
    syntax.Require: lambda n: f"require {flat(n.condition)}",
    syntax.Section: lambda n: f"{section_head(n)} {flat(n.body)}",
    syntax.Size: lambda n: " x ".join(flat(part, SUM) for part in n.parts),
    syntax.Space: _flat_space,
    syntax.String: _flat_string,
    syntax.Unary: lambda n: f"not {flat(n.operand, NOT)}" if n.operator == "not" else f"-{flat(n.operand, MINUS)}",
    syntax.Use: lambda n: f"use {flat(n.path)}" + ("" if n.names is None else f" {flat_items('{', n.names, '}')}"),
}
