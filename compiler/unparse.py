"""Syntax tree -> text in the canonical layout: the other half of the round trip, and `nasdsl fmt`.

The author decides where lines break, the layout how: what was written on one line stays there while it fits, and what
stands between brackets that were broken is broken again, blocks one item a line. A tree that comes from no text is laid
out by length alone. `flat` is the text on one line, `written` the one with line breaks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.source import Span

WIDTH = 120
INDENT = 2

Anything = syntax.Node | None


def unparse(file: syntax.File) -> str:
    """The text of a file. `parse(unparse(file)) == file`, comments are kept, and a second time changes nothing."""
    return _Writer(file).file(file)


def unparse_expr(expr: syntax.Expr | syntax.Named | syntax.Let | syntax.Require) -> str:
    """The text of one expression, on one line."""
    return _flat(expr)


# --- On one line -----------------------------------------------------------------------------------------------------

# How tightly things bind, as in grammar.lark; what binds less than its place asks for stands in parentheses. So does a
# condition in a pipeline, though the grammar can do without: `a -> b if c else d` would be misread.
_PIPE, _IF, _IMPLIES, _OR, _AND, _NOT, _COMPARE, _RANGE, _SIZE, _SUM, _PRODUCT, _MINUS, _POWER, _POSTFIX = range(14)
_BINARY = {"implies": _IMPLIES, "or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "^": _POWER}
_SIDES = {  # the levels that an operator asks of its left and its right side
    _IMPLIES: (_OR, _OR),
    _OR: (_OR, _AND),
    _AND: (_AND, _NOT),
    _COMPARE: (_RANGE, _RANGE),
    _SUM: (_SUM, _PRODUCT),
    _PRODUCT: (_PRODUCT, _MINUS),
    _POWER: (_POSTFIX, _MINUS),
}


def _level(node: syntax.Node) -> int:
    match node:
        case syntax.Binary():
            return _BINARY.get(node.operator, _COMPARE)
        case syntax.Unary():
            return _NOT if node.operator == "not" else _MINUS
        case syntax.Number():
            return _MINUS if node.value < 0 else _POSTFIX
    return {syntax.Pipe: _PIPE, syntax.If: _IF, syntax.Range: _RANGE, syntax.Size: _SIZE}.get(type(node), _POSTFIX)


def _flat(node: syntax.Node, level: int = _PIPE) -> str:
    text = _FLAT[type(node)](node)
    return f"({text})" if _level(node) < level else text


def _flat_binary(node: syntax.Binary) -> str:
    left, right = _SIDES[_level(node)]
    return _flat(node.left, left) + _operator(node) + _flat(node.right, right)


def _operator(node: syntax.Binary) -> str:
    """The operator with its spaces: none in powers and in ratios such as `1/4`."""
    if node.operator == "^" or (node.operator == "/" and _is_ratio(node)):
        return node.operator
    return f" {node.operator} "


def _is_ratio(node: syntax.Binary) -> bool:
    right = node.right.left if isinstance(node.right, syntax.Binary) and node.right.operator == "^" else node.right
    return all(isinstance(side, syntax.Number) and side.unit is None for side in (node.left, right))


def _flat_range(node: syntax.Range) -> str:
    ends = (node.first, node.last)
    tight = all(_level(end) >= _MINUS or (isinstance(end, syntax.Binary) and " " not in _operator(end)) for end in ends)
    dots = ".." if tight else " .. "
    return _flat(node.first, _SIZE) + dots + _flat(node.last, _SIZE) + _flat_step(node, _SIZE)


def _flat_step(node: syntax.Range, level: int) -> str:
    return "" if node.step is None else f" step {_flat(node.step, level)}"


def _flat_items(opening: str, items: Sequence[syntax.Node], closing: str) -> str:
    inside = ", ".join(_flat(item) for item in items)
    return f"{{ {inside} }}" if opening == "{" and items else opening + inside + closing


def _flat_call(node: syntax.Call) -> str:
    arguments = "" if node.arguments is None else _flat_items("(", node.arguments, ")")
    return node.function.name + arguments + ("" if node.body is None else f" {_flat(node.body)}")


def _formal_head(node: syntax.Formal) -> str:
    return node.name.name + ("" if node.allowed is None else f" in {_flat(node.allowed)}")


def _flat_formals(formals: tuple[syntax.Formal, ...] | None) -> str:
    return "" if formals is None else _flat_items("(", formals, ")")


def _head(node: syntax.Expr) -> str:
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
            return _flat(node)
        case syntax.Number() if node.unit is None and node.value >= 0:
            return _flat(node)
        case syntax.Call() if node.arguments is not None and node.body is None:
            return _flat(node)
        case syntax.Field():
            return f"{_simple(node.base)}.{node.name.name}"
        case syntax.Index():
            return f"{_simple(node.base)}[{_flat(node.index)}]"
    return f"({_flat(node)})"


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
    return f"space {node.name.name} {_flat_items('{', node.body, '}')}"


def _flat_derived(node: syntax.Derived) -> str:
    return f"space {node.name.name} = {node.base.name} with {_flat_items('{', node.changes, '}')}"


def _named(node: syntax.Section) -> str:
    return node.kind.name if node.name is None else f"{node.kind.name} {node.name.name}"


def _flat_operator(node: syntax.Operator) -> str:
    body = _flat(node.body) if isinstance(node.body, syntax.Block) else f"= {_flat(node.body)}"
    return f"operator {node.name.name}{_flat_formals(node.formals)} {body}"


_FLAT: dict[type, Callable[[Any], str]] = {
    syntax.Binary: _flat_binary,
    syntax.Bind: lambda n: f"{n.name} in {_head(n.source)}",
    syntax.Block: lambda n: _flat_items("{", n.items, "}"),
    syntax.Call: _flat_call,
    syntax.Comprehension: lambda n: f"[for {', '.join(_flat(b) for b in n.binds)}: {_flat(n.body)}]",
    syntax.Derived: _flat_derived,
    syntax.Else: lambda n: "else",
    syntax.Field: lambda n: f"{_flat(n.base, _POSTFIX)}.{n.name.name}",
    syntax.For: lambda n: f"for {_flat(n.bind)} {_flat(n.body)}",
    syntax.Formal: lambda n: _formal_head(n) + ("" if n.default is None else f" = {_flat(n.default)}"),
    syntax.Fusion: lambda n: f"fusion {n.name.name}{_flat_formals(n.formals or None)} {_flat(n.body)}",
    syntax.If: lambda n: f"{_flat(n.then, _IMPLIES)} if {_flat(n.condition, _IMPLIES)} else {_flat(n.otherwise, _IF)}",
    syntax.Incoming: lambda n: "in",
    syntax.Index: lambda n: f"{_flat(n.base, _POSTFIX)}[{_flat(n.index)}]",
    syntax.Input: lambda n: f"input {_flat(n.value)}",
    syntax.Let: lambda n: f"let {n.name.name}{_flat_formals(n.formals)} = {_flat(n.value)}",
    syntax.List: lambda n: _flat_items("[", n.items, "]"),
    syntax.Match: lambda n: f"match {_head(n.head)} {_flat(n.cases)}",
    syntax.Name: lambda n: n.name,
    syntax.Named: lambda n: f"{_flat(n.key)}: {_flat(n.value)}",
    syntax.Number: _flat_number,
    syntax.Operator: _flat_operator,
    syntax.Param: lambda n: f"param {n.name.name} {'in' if n.choices else '='} {_flat(n.value)}",
    syntax.Pin: lambda n: f"{_flat(n.place)}: {_flat(n.value)}",
    syntax.Pipe: lambda n: " -> ".join(_flat(step, _IMPLIES) for step in n.steps),
    syntax.Range: _flat_range,
    syntax.Repeat: lambda n: f"repeat {_head(n.count)} {_flat(n.body)}",
    syntax.Require: lambda n: f"require {_flat(n.condition)}",
    syntax.Section: lambda n: f"{_named(n)} {_flat(n.body)}",
    syntax.Size: lambda n: " x ".join(_flat(part, _SUM) for part in n.parts),
    syntax.Space: _flat_space,
    syntax.String: _flat_string,
    syntax.Unary: lambda n: f"not {_flat(n.operand, _NOT)}" if n.operator == "not" else f"-{_flat(n.operand, _MINUS)}",
    syntax.Use: lambda n: f"use {_flat(n.path)}" + ("" if n.names is None else f" {_flat_items('{', n.names, '}')}"),
}


# --- On several lines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Brackets:
    """Items between brackets, with the span of all of it as far as it was read from a text."""

    opening: str
    items: Sequence[syntax.Node]
    closing: str
    span: Span | None


class _Writer:
    def __init__(self, file: syntax.File):
        self.source = file.span.source
        self.comments = sorted((c for c in file.comments if c.span.source is self.source), key=lambda c: c.span.start)
        self.starts = [c.span.start for c in self.comments]
        self.left = [True] * len(self.comments)
        self.strays = [c for c in file.comments if c.span.source is not self.source]
        self.known: dict[int, bool] = {}

    def file(self, file: syntax.File) -> str:
        lines, _ = self.lines(file.items, 0, len(self.source.text), 0, True)
        lines += [c.text.rstrip() for c, left in zip(self.comments, self.left, strict=True) if left]
        lines += [c.text.rstrip() for c in self.strays]
        return "\n".join(lines) + "\n" if lines else ""

    # --- What the author did ---

    def located(self, node: syntax.Node) -> bool:
        return node.span.source is self.source and node.span.end > node.span.start

    def text(self, start: int, end: int) -> str:
        return self.source.text[start:end]

    def forced(self, node: Any) -> bool:
        """Whether the author broke lines inside of a node at a place where the layout breaks them too."""
        if isinstance(node, tuple):
            return any(self.forced(part) for part in node)
        if not isinstance(node, syntax.Node) or isinstance(node, syntax.Bind | syntax.Range | syntax.Size):
            return False
        if id(node) not in self.known:
            parts = (getattr(node, field.name) for field in fields(node) if field.name not in _ON_ONE_LINE)
            self.known[id(node)] = any(self.forced(part) for part in parts) or self.broken(node)
        return self.known[id(node)]

    def broken(self, node: syntax.Node) -> bool:
        match node:
            case syntax.List() | syntax.Block() | syntax.Space() | syntax.Derived():
                return self.apart(self.brackets(node))
            case syntax.Call():
                return node.arguments is not None and self.apart(self.arguments(node))
            case syntax.Let() | syntax.Operator() | syntax.Fusion():
                return bool(node.formals) and self.apart(self.formals(node))
            case syntax.Pipe() | syntax.Binary() | syntax.If():
                operands, operators = self.chain(node)
                return any(self.breaks(operands, operators))
        return False

    def brackets(self, node: syntax.List | syntax.Block | syntax.Space | syntax.Derived) -> _Brackets:
        span = node.span if self.located(node) else None
        match node:
            case syntax.List():
                return _Brackets("[", node.items, "]", span)
            case syntax.Block():
                return _Brackets("{", node.items, "}", span)
            case syntax.Space():
                return _Brackets("{", node.body, "}", self.opened("{", node.name, node.span.end))
            case syntax.Derived():
                return _Brackets("{", node.changes, "}", self.opened("{", node.base, node.span.end))

    def arguments(self, node: syntax.Call) -> _Brackets:
        end = node.span.end if node.body is None else node.body.span.start
        return _Brackets("(", node.arguments or (), ")", self.opened("(", node.function, end))

    def formals(self, node: syntax.Let | syntax.Operator | syntax.Fusion) -> _Brackets:
        end = node.body.span.start if not isinstance(node, syntax.Let) else node.value.span.start
        return _Brackets("(", node.formals or (), ")", self.opened("(", node.name, end))

    def opened(self, bracket: str, after: syntax.Name, end: int) -> Span | None:
        """The span from the first bracket after a name to the last partner of it before `end`."""
        if not self.located(after):
            return None
        start = after.span.end
        while (start := self.source.text.find(bracket, start, end)) >= 0 and self.in_comment(start):
            start += 1
        close = self.source.text.rfind({"(": ")", "{": "}"}[bracket], start, end)
        while close > start >= 0 and self.in_comment(close):
            close = self.source.text.rfind({"(": ")", "{": "}"}[bracket], start, close)
        return Span(self.source, start, close + 1) if 0 <= start < close else None

    def in_comment(self, offset: int) -> bool:
        place = bisect_left(self.starts, offset + 1) - 1
        return place >= 0 and offset < self.comments[place].span.end

    def apart(self, brackets: _Brackets) -> bool:
        """Whether the author broke a line right between these brackets."""
        if brackets.span is None:
            return any(
                isinstance(item, syntax.Let | syntax.Require) for item in brackets.items if brackets.opening == "{"
            )
        before = brackets.span.start + 1
        for item in brackets.items:
            if not self.located(item):
                return False
            if "\n" in self.text(before, item.span.start):
                return True
            before = item.span.end
        inside = "\n" in self.text(before, brackets.span.end - 1)
        return inside and (bool(brackets.items) or self.has_comments(brackets))

    def has_comments(self, brackets: _Brackets) -> bool:
        assert brackets.span is not None
        first = bisect_left(self.starts, brackets.span.start)
        return not brackets.items and first < len(self.starts) and self.starts[first] < brackets.span.end

    def chain(self, node: syntax.Pipe | syntax.Binary | syntax.If) -> tuple[list[tuple[syntax.Node, int]], list[str]]:
        """Operands, with the level asked of each, and the operators between them, of one kind of operator."""
        if isinstance(node, syntax.Pipe):
            return [(step, _IMPLIES) for step in node.steps], [" -> "] * (len(node.steps) - 1)
        if isinstance(node, syntax.If):
            operands = [(node.then, _IMPLIES), (node.condition, _IMPLIES), (node.otherwise, _IF)]
            return [*operands], [" if ", " else "]
        level = _level(node)
        left, right = _SIDES[level]
        links = [node]
        while left == level and isinstance(links[-1].left, syntax.Binary) and _level(links[-1].left) == level:
            links.append(links[-1].left)
        links.reverse()
        return [(links[0].left, left), *((link.right, right) for link in links)], [_operator(link) for link in links]

    def breaks(self, operands: list[tuple[syntax.Node, int]], operators: list[str]) -> list[bool]:
        """Before which of the operators the author broke the line, where that can be."""
        out = []
        for place, operator in enumerate(operators):
            left, right = operands[place][0], operands[place + 1][0]
            known = self.located(left) and self.located(right) and operator.strip() in _BREAKABLE
            out.append(known and "\n" in self.text(left.span.end, right.span.start))
        return out

    # --- Comments ---

    def take(self, start: int, end: int) -> list[syntax.Comment]:
        """The comments of a stretch of text, once."""
        out = []
        for place in range(bisect_left(self.starts, start), len(self.comments)):
            if self.starts[place] >= end:
                break
            if self.left[place]:
                self.left[place] = False
                out.append(self.comments[place])
        return out

    # --- Writing ---

    def written(self, node: syntax.Node, indent: int, column: int, tail: int = 0, level: int = _PIPE) -> str:
        """The text of a node that begins at a column, in an item indented so far, with `tail` characters to follow."""
        if _level(node) < level:
            return f"({self.written(node, indent, column + 1, tail + 1)})"
        if not self.forced(node):
            text = _flat(node)
            if column + len(text) + tail <= WIDTH:
                return text
        return self.spread(node, indent, column, tail)

    def spread(self, node: syntax.Node, indent: int, column: int, tail: int) -> str:
        match node:
            case syntax.List() | syntax.Block():
                return self.bracketed(self.brackets(node), indent, column, tail)
            case syntax.Space():
                return self.after(f"space {node.name.name} ", self.brackets(node), indent, column, tail)
            case syntax.Derived():
                start = f"space {node.name.name} = {node.base.name} with "
                return self.after(start, self.brackets(node), indent, column, tail)
            case syntax.Call():
                text = node.function.name
                if node.arguments is not None:
                    text = self.after(text, self.arguments(node), indent, column, tail if node.body is None else 2)
                return text if node.body is None else self.after(text + " ", node.body, indent, column, tail)
            case syntax.Match():
                return self.after(f"match {_head(node.head)} ", node.cases, indent, column, tail)
            case syntax.For():
                return self.after(f"for {_flat(node.bind)} ", node.body, indent, column, tail)
            case syntax.Repeat():
                return self.after(f"repeat {_head(node.count)} ", node.body, indent, column, tail)
            case syntax.Section():
                return self.after(f"{_named(node)} ", node.body, indent, column, tail)
            case syntax.Fusion():
                text = f"fusion {node.name.name}"
                if node.formals:
                    text = self.after(text, self.formals(node), indent, column, 2)
                return self.after(text + " ", node.body, indent, column, tail)
            case syntax.Operator():
                text = self.after(f"operator {node.name.name}", self.formals(node), indent, column, 2)
                text += " " if isinstance(node.body, syntax.Block) else " = "
                return self.after(text, node.body, indent, column, tail)
            case syntax.Let():
                text = f"let {node.name.name}"
                if node.formals is not None:
                    text = self.after(text, self.formals(node), indent, column, 2)
                return self.after(text + " = ", node.value, indent, column, tail)
            case syntax.Named():
                return self.after(f"{_flat(node.key)}: ", node.value, indent, column, tail)
            case syntax.Pin():
                return self.after(f"{_flat(node.place)}: ", node.value, indent, column, tail)
            case syntax.Param():
                start = f"param {node.name.name} {'in' if node.choices else '='} "
                return self.after(start, node.value, indent, column, tail)
            case syntax.Formal() if node.default is not None:
                return self.after(f"{_formal_head(node)} = ", node.default, indent, column, tail)
            case syntax.Input():
                return self.after("input ", node.value, indent, column, tail)
            case syntax.Require():
                return self.after("require ", node.condition, indent, column, tail)
            case syntax.Comprehension():
                binds = ", ".join(_flat(bind) for bind in node.binds)
                return self.after(f"[for {binds}: ", node.body, indent, column, tail + 1) + "]"
            case syntax.Unary():
                start, level = ("not ", _NOT) if node.operator == "not" else ("-", _MINUS)
                return self.after(start, node.operand, indent, column, tail, level)
            case syntax.Field():
                rest = f".{node.name.name}"
                return self.written(node.base, indent, column, tail + len(rest), _POSTFIX) + rest
            case syntax.Index():
                text = self.written(node.base, indent, column, tail + 1, _POSTFIX) + "["
                return self.after(text, node.index, indent, column, tail + 1) + "]"
            case syntax.Pipe() | syntax.Binary() | syntax.If():
                return self.chained(node, indent, column, tail)
        return _flat(node)

    def after(
        self, text: str, what: syntax.Node | _Brackets, indent: int, column: int, tail: int, level: int = _PIPE
    ) -> str:
        """A text that is written already, begun at a column, and what follows it."""
        column = _end(text, column)
        if isinstance(what, _Brackets):
            return text + self.bracketed(what, indent, column, tail)
        return text + self.written(what, indent, column, tail, level)

    def chained(self, node: syntax.Pipe | syntax.Binary | syntax.If, indent: int, column: int, tail: int) -> str:
        operands, operators = self.chain(node)
        breaks = self.breaks(operands, operators)
        if not self.forced(node) or (any(breaks) and not self.fits(operands, operators, breaks, indent, column)):
            breaks = [operator.strip() in _BROKEN for operator in operators]
        first, level = operands[0]
        text = self.written(first, indent, column, len(operators[0]), level)
        margin = "\n" + " " * (indent + INDENT)
        before = first
        for (operand, level), operator, apart in zip(operands[1:], operators, breaks, strict=True):
            if apart and self.located(before) and self.located(operand):
                text += self.remarks(before.span.end, operand.span.start, margin)
            text += margin + operator.lstrip() if apart else operator
            before = operand
            text = self.after(text, operand, indent + INDENT if any(breaks) else indent, column, tail, level)
        return text

    def remarks(self, start: int, end: int, margin: str) -> str:
        """The comments before an operator that begins a line: beside what stands before it, or on their own lines."""
        text = ""
        for found in self.take(start, end):
            beside = "\n" not in self.text(start, found.span.start)
            text += ("  " if beside else margin) + found.text.rstrip()
            start = found.span.end
        return text

    def fits(
        self,
        operands: list[tuple[syntax.Node, int]],
        operators: list[str],
        breaks: list[bool],
        indent: int,
        column: int,
    ) -> bool:
        """Whether a chain broken where the author did keeps to the width, as far as it has no breaks inside."""
        for place, (operand, level) in enumerate(operands):
            if place:
                column = indent + INDENT if breaks[place - 1] else column
                column += len(operators[place - 1].strip()) + 2
            if self.forced(operand):
                return True
            column += len(_flat(operand, level))
            if column > WIDTH:
                return False
        return True

    def bracketed(self, brackets: _Brackets, indent: int, column: int, tail: int) -> str:
        items = brackets.items
        apart = self.apart(brackets)
        if not apart and not any(self.forced(item) for item in items):
            text = _flat_items(brackets.opening, items, brackets.closing)
            if column + len(text) + tail <= WIDTH or not items:
                return text
        elif not apart and self.hugs(brackets, column):
            pad = " " if brackets.opening == "{" else ""
            text = brackets.opening + pad + "".join(f"{_flat(item)}, " for item in items[:-1])
            return self.after(text, items[-1], indent, column, tail + 2) + pad + brackets.closing
        start, end = (brackets.span.start + 1, brackets.span.end - 1) if brackets.span else (0, 0)
        lines, remark = self.lines(items, start, end, indent + INDENT, brackets.opening == "{", apart)
        return "\n".join([brackets.opening + remark, *lines, " " * indent + brackets.closing])

    def hugs(self, brackets: _Brackets, column: int) -> bool:
        """Whether only the last item has line breaks, and what comes before them fits on the line."""
        *others, last = brackets.items
        if any(self.forced(item) for item in others):
            return False
        before = sum(len(_flat(item)) + 2 for item in others)
        return column + 2 + before + self.first_line(last) <= WIDTH

    def first_line(self, node: syntax.Node) -> int:
        """About how long the first line of a node is."""
        if not self.forced(node):
            return len(_flat(node))
        match node:
            case syntax.Named():
                return len(_flat(node.key)) + 2 + self.first_line(node.value)
            case syntax.Call() if node.arguments is None or not self.forced(node.arguments):
                arguments = 0 if node.arguments is None else len(_flat_items("(", node.arguments, ")"))
                return len(node.function.name) + arguments + 2
            case syntax.Call():
                return len(node.function.name) + 1
            case syntax.Match():
                return len(_head(node.head)) + 8
            case syntax.For():
                return len(_flat(node.bind)) + 6
            case syntax.Repeat():
                return len(_head(node.count)) + 9
            case syntax.List() | syntax.Block():
                return 1
            case syntax.Pipe() | syntax.Binary() | syntax.If():
                operands, _ = self.chain(node)
                return self.first_line(operands[0][0])
        return len(_flat(node))

    def lines(
        self, items: Sequence[syntax.Node], start: int, end: int, indent: int, one_each: bool, apart: bool = True
    ) -> tuple[list[str], str]:
        """The lines between brackets, and the comment beside the opening bracket.

        `one_each` gives each item its own line; else the lines are the author's or, where there was none, filled.
        """
        lines: list[str] = []
        remark = ""
        margin = " " * indent
        here = start
        joins = False  # whether the next item may go on the last line
        fills = not apart and not any(isinstance(item, syntax.Named) for item in items)

        def comment(found: syntax.Comment) -> None:
            nonlocal here, joins, remark
            between = self.text(here, found.span.start)
            text = found.text.rstrip()
            if "\n" not in between and (lines or indent):
                if lines:
                    lines[-1] += f"  {text}"
                else:
                    remark = f"  {text}"
            else:
                if lines and between.count("\n") > 1:
                    lines.append("")
                lines.append(margin + text)
            here = found.span.end
            joins = False

        for item in items:
            between = ""
            if self.located(item):
                for found in self.take(here, item.span.start):
                    comment(found)
                between = self.text(here, item.span.start)
            blank = bool(lines) and between.count("\n") > 1
            joins = joins and not one_each and (fills or (apart and "\n" not in between))
            if joins:
                joins = len(lines[-1]) + 2 + self.first_line(item) <= WIDTH
            text = self.written(item, indent, len(lines[-1]) + 2 if joins else indent, 1)
            left = self.take(item.span.start, item.span.end) if self.located(item) else []
            if left:
                place = len(lines) - 1 if joins else len(lines)
                lines[place:place] = [margin + c.text.rstrip() for c in left]
            if not self.located(item) and lines and indent <= INDENT and "\n" in text:
                blank = True
            if joins:
                lines[-1:] = f"{lines[-1]}, {text}".split("\n")
            else:
                if blank:
                    lines.insert(len(lines) - len(left), "")
                lines += (margin + text).split("\n")
            joins = True
            if self.located(item):
                here = item.span.end
        for found in self.take(here, end):
            comment(found)
        return lines, remark


# Parts of a node that are never broken.
_ON_ONE_LINE = frozenset({"span", "operator_span", "key", "place", "head", "count", "allowed"})

# Operators before which a line may begin, and those before which a chain that is too long breaks.
_BREAKABLE = frozenset({"->", "+", "*", "/", "and", "or", "implies", "if"})
_BROKEN = frozenset({"->", "+", "and", "or", "implies", "if"})


def _end(text: str, column: int) -> int:
    """The column behind a text that began at a column."""
    return column + len(text) if "\n" not in text else len(text) - text.rindex("\n") - 1
