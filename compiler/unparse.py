"""Syntax tree -> text in the canonical layout: the other half of the round trip, and `nasdsl fmt`.

The author decides where lines break, the layout how: what was written on one line stays there while it fits, and what
stands between brackets that were broken is broken again, blocks one item a line. A tree that comes from no text is laid
out by length alone. What fits on one line is written by `flat.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.flat import (
    IF,
    IMPLIES,
    MINUS,
    NOT,
    PIPE,
    POSTFIX,
    SIDES,
    flat,
    flat_items,
    formal_head,
    head,
    level_of,
    operator_of,
    section_head,
)
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.source import Span

WIDTH = 120
INDENT = 2


def unparse(file: syntax.File) -> str:
    """The text of a file. `parse(unparse(file)) == file`, comments are kept, and a second time changes nothing."""
    return _Writer(file).file(file)


def unparse_expr(expr: syntax.Expr | syntax.Named | syntax.Let | syntax.Require) -> str:
    """The text of one expression, on one line."""
    return flat(expr)


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
            return [(step, IMPLIES) for step in node.steps], [" -> "] * (len(node.steps) - 1)
        if isinstance(node, syntax.If):
            operands = [(node.then, IMPLIES), (node.condition, IMPLIES), (node.otherwise, IF)]
            return [*operands], [" if ", " else "]
        level = level_of(node)
        left, right = SIDES[level]
        links = [node]
        while left == level and isinstance(links[-1].left, syntax.Binary) and level_of(links[-1].left) == level:
            links.append(links[-1].left)
        links.reverse()
        return [(links[0].left, left), *((link.right, right) for link in links)], [operator_of(link) for link in links]

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

    def written(self, node: syntax.Node, indent: int, column: int, tail: int = 0, level: int = PIPE) -> str:
        """The text of a node that begins at a column, in an item indented so far, with `tail` characters to follow."""
        if level_of(node) < level:
            return f"({self.written(node, indent, column + 1, tail + 1)})"
        if not self.forced(node):
            text = flat(node)
            if column + len(text) + tail <= WIDTH:
                return text
        return self.spread(node, indent, column, tail)

    def spread(self, node: syntax.Node, indent: int, column: int, tail: int) -> str:
        match node:
            case syntax.List() | syntax.Block():
                return self.bracketed(self.brackets(node), indent, column, tail)
            case syntax.Call():
                text = node.function.name
                if node.arguments is not None:
                    text = self.after(text, self.arguments(node), indent, column, tail if node.body is None else 2)
                return text if node.body is None else self.after(text + " ", node.body, indent, column, tail)
            case syntax.Match():
                return self.after(f"match {head(node.head)} ", node.cases, indent, column, tail)
            case syntax.For():
                return self.after(f"for {flat(node.bind)} ", node.body, indent, column, tail)
            case syntax.Repeat():
                return self.after(f"repeat {head(node.count)} ", node.body, indent, column, tail)
            case syntax.Comprehension():
                binds = ", ".join(flat(bind) for bind in node.binds)
                return self.after(f"[for {binds}: ", node.body, indent, column, tail + 1) + "]"
            case syntax.Unary():
                start, level = ("not ", NOT) if node.operator == "not" else ("-", MINUS)
                return self.after(start, node.operand, indent, column, tail, level)
            case syntax.Field():
                rest = f".{node.name.name}"
                return self.written(node.base, indent, column, tail + len(rest), POSTFIX) + rest
            case syntax.Index():
                text = self.written(node.base, indent, column, tail + 1, POSTFIX) + "["
                return self.after(text, node.index, indent, column, tail + 1) + "]"
            case syntax.Pipe() | syntax.Binary() | syntax.If():
                return self.chained(node, indent, column, tail)
        return self.spread_item(node, indent, column, tail)

    def spread_item(self, node: syntax.Node, indent: int, column: int, tail: int) -> str:
        """As `spread`, of what stands in files, spaces and brackets, and is no expression of its own."""
        match node:
            case syntax.Space():
                return self.after(f"space {node.name.name} ", self.brackets(node), indent, column, tail)
            case syntax.Derived():
                start = f"space {node.name.name} = {node.base.name} with "
                return self.after(start, self.brackets(node), indent, column, tail)
            case syntax.Section():
                return self.after(f"{section_head(node)} ", node.body, indent, column, tail)
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
                return self.after(f"{flat(node.key)}: ", node.value, indent, column, tail)
            case syntax.Pin():
                return self.after(f"{flat(node.place)}: ", node.value, indent, column, tail)
            case syntax.Param():
                start = f"param {node.name.name} {'in' if node.choices else '='} "
                return self.after(start, node.value, indent, column, tail)
            case syntax.Formal() if node.default is not None:
                return self.after(f"{formal_head(node)} = ", node.default, indent, column, tail)
            case syntax.Input():
                return self.after("input ", node.value, indent, column, tail)
            case syntax.Require():
                return self.after("require ", node.condition, indent, column, tail)
        return flat(node)

    def after(
        self, text: str, what: syntax.Node | _Brackets, indent: int, column: int, tail: int, level: int = PIPE
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
            column += len(flat(operand, level))
            if column > WIDTH:
                return False
        return True

    def bracketed(self, brackets: _Brackets, indent: int, column: int, tail: int) -> str:
        items = brackets.items
        apart = self.apart(brackets)
        if not apart and not any(self.forced(item) for item in items):
            text = flat_items(brackets.opening, items, brackets.closing)
            if column + len(text) + tail <= WIDTH or not items:
                return text
        elif not apart and self.hugs(brackets, column):
            pad = " " if brackets.opening == "{" else ""
            text = brackets.opening + pad + "".join(f"{flat(item)}, " for item in items[:-1])
            return self.after(text, items[-1], indent, column, tail + 2) + pad + brackets.closing
        start, end = (brackets.span.start + 1, brackets.span.end - 1) if brackets.span else (0, 0)
        lines, remark = self.lines(items, start, end, indent + INDENT, brackets.opening == "{", apart)
        return "\n".join([brackets.opening + remark, *lines, " " * indent + brackets.closing])

    def hugs(self, brackets: _Brackets, column: int) -> bool:
        """Whether only the last item has line breaks, and what comes before them fits on the line."""
        *others, last = brackets.items
        if any(self.forced(item) for item in others):
            return False
        before = sum(len(flat(item)) + 2 for item in others)
        return column + 2 + before + self.first_line(last) <= WIDTH

    def first_line(self, node: syntax.Node) -> int:
        """About how long the first line of a node is."""
        if not self.forced(node):
            return len(flat(node))
        match node:
            case syntax.Named():
                return len(flat(node.key)) + 2 + self.first_line(node.value)
            case syntax.Call() if node.arguments is None or not self.forced(node.arguments):
                arguments = 0 if node.arguments is None else len(flat_items("(", node.arguments, ")"))
                return len(node.function.name) + arguments + 2
            case syntax.Call():
                return len(node.function.name) + 1
            case syntax.Match():
                return len(head(node.head)) + 8
            case syntax.For():
                return len(flat(node.bind)) + 6
            case syntax.Repeat():
                return len(head(node.count)) + 9
            case syntax.List() | syntax.Block():
                return 1
            case syntax.Pipe() | syntax.Binary() | syntax.If():
                operands, _ = self.chain(node)
                return self.first_line(operands[0][0])
        return len(flat(node))

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
