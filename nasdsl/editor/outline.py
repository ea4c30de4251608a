"""The parts of a text: symbols in their order, what can be folded, and hints that stand behind what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nasdsl.compiler import syntax
from nasdsl.compiler.bound import NETWORKS
from nasdsl.compiler.brackets import CLOSES, PARTNER
from nasdsl.editor.document import Document
from nasdsl.editor.facts import Facts
from nasdsl.editor.hover import told_range


@dataclass(frozen=True)
class Symbol:
    """A part with a name: `kind` is `space`, `operator`, `fusion`, `let`, `function`, `param`, `section`, `label` or
    `pin`."""

    name: str
    kind: str
    start: int
    end: int
    name_start: int
    name_end: int
    detail: str = ""
    parts: tuple[Symbol, ...] = field(default=())


@dataclass(frozen=True)
class Hint:
    """A few words behind a place."""

    offset: int
    text: str
    tooltip: str = ""


def symbols(document: Document) -> list[Symbol]:
    """What a text declares."""
    return [made for item in document.tree.items for made in _symbols(item)]


def _symbols(item: syntax.Node) -> Iterator[Symbol]:
    if isinstance(item, syntax.Space):
        yield _symbol(item.name, "space", item, "", [made for part in item.body for made in _symbols(part)])
    elif isinstance(item, syntax.Derived):
        detail = f"= {item.base.name}"
        yield _symbol(item.name, "space", item, detail, [made for part in item.changes for made in _symbols(part)])
    elif isinstance(item, syntax.Operator):
        yield _symbol(item.name, "operator", item, _formals(item.formals), list(_inside(item.body)))
    elif isinstance(item, syntax.Fusion):
        yield _symbol(item.name, "fusion", item, _formals(item.formals))
    elif isinstance(item, syntax.Let):
        function = item.formals is not None
        yield _symbol(item.name, "function" if function else "let", item, _formals(item.formals or ()))
    elif isinstance(item, syntax.Param):
        yield _symbol(item.name, "param", item, _short(item.value))
    elif isinstance(item, syntax.Section):
        parts = list(_inside(item.body)) if item.kind.name in NETWORKS else []
        yield _symbol(item.kind, "section", item, item.name.name if item.name is not None else "", parts)
    elif isinstance(item, syntax.Pin):
        place, span = item.place.span, item.span
        yield Symbol(_short(item.place), "pin", span.start, span.end, place.start, place.end, _short(item.value))


def _inside(body: syntax.Node) -> Iterator[Symbol]:
    """The labels and `let`s that stand right in a body."""
    for item in body.items if isinstance(body, syntax.Block) else ():
        if isinstance(item, syntax.Let):
            yield from _symbols(item)
        elif isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
            yield _symbol(item.key, "label", item, _short(item.value))


def _symbol(name: syntax.Name, kind: str, node: syntax.Node, detail: str, parts: Sequence[Symbol] = ()) -> Symbol:
    own, whole = name.span, node.span
    return Symbol(name.name, kind, whole.start, whole.end, own.start, own.end, detail, tuple(parts))


def _formals(formals: Sequence[syntax.Formal]) -> str:
    return f"({', '.join(formal.name.name for formal in formals)})" if formals else ""


def _short(node: syntax.Node, most: int = 40) -> str:
    text = " ".join(node.span.text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def folds(document: Document) -> list[tuple[int, int, str]]:
    """First and last line, from 0, of brackets and of comments that take several; and which of the two it is."""
    lines = document.lines
    out: list[tuple[int, int, str]] = []
    stack: list[int] = []
    for token in document.tokens.tokens:
        if token.kind in PARTNER:
            stack.append(token.start)
        elif token.kind in CLOSES and stack:
            first, last = lines.position(stack.pop())[0], lines.position(token.start)[0] - 1
            if last > first:
                out.append((first, last, "region"))
    run: list[int] = []
    for start, _ in [*document.tokens.comments, (-1, -1)]:
        line = lines.position(start)[0] if start >= 0 else -1
        alone = start >= 0 and not document.text[document.text.rfind("\n", 0, start) + 1 : start].strip()
        if run and (not alone or line != run[-1] + 1):
            if run[-1] > run[0]:
                out.append((run[0], run[-1], "comment"))
            run = []
        if alone:
            run.append(line)
    return sorted(set(out))


def hints(document: Document, known: Iterable[Facts]) -> list[Hint]:
    """How many values each decision has, what each `let` stands for, and how large each space is."""
    out: dict[int, Hint] = {}
    known = list(known)
    for one in known:
        for (_, end), decision in one.decisions.items():
            copies = f" x {len(decision.paths):,}" if len(decision.paths) > 1 else ""
            out.setdefault(end, Hint(end, f"{decision.values} values{copies}", ", ".join(decision.paths[:8])))
    for node in _lets(document):
        place = node.name.span.start, node.name.span.end
        value = next((one.values[place] for one in known if place in one.values), "")
        if value and value != " ".join(node.value.span.text.split()) and node.formals is None:
            out.setdefault(place[1], Hint(place[1], f": {value}"))
    for item in document.tree.items:
        if isinstance(item, syntax.Space | syntax.Derived):
            found = next((one.space for one in known if one.space.name == item.name.name), None)
            if found is not None and found.count:
                costs = f", {told_range(found.macs)} MACs" if found.macs is not None else ""
                end = item.name.span.end
                out.setdefault(end, Hint(end, f": {found.count} architectures{costs}"))
    return sorted(out.values(), key=lambda hint: hint.offset)


def _lets(document: Document) -> Iterator[syntax.Let]:
    for one in document.names.occurrences:
        if one.declares and isinstance(one.declaration.node, syntax.Let):
            yield one.declaration.node
