"""Spaces as text: a result file that pins decisions of a space, and an architecture written out in full."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from nasdsl.compiler import ops, syntax
from nasdsl.compiler.architecture import Architecture, canonical
from nasdsl.compiler.braces import braces
from nasdsl.compiler.decision import Decision, FixedUnits
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.elaborate.settings import expression
from nasdsl.compiler.elaborate.values import show
from nasdsl.compiler.files import quoted, write_text
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.ops.operator import REQUIRED, Operator
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.tables import tables
from nasdsl.compiler.unparse import unparse, unparse_expr
from nasdsl.compiler.values.plain import FAULTS
from nasdsl.compiler.values.tree import evaluate

WIDTH = 120
INDENT = 2


def write_pinned(
    out: Path,
    space: Space,
    architecture: Architecture | None,
    name: str,
    note: str = "",
    narrowed: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Writes a result file (`pinned`), which names the space's file as it is seen from where it lies.

    Args:
        architecture: without one, the decisions of the space stay open, as far as they are not narrowed.
        narrowed: by path of a choice: the options that stay.

    Raises:
        ArgumentError: the space was not read from a file.
    """
    write_text(out, pinned_text(out, space, architecture, name, note, narrowed))


def pinned_text(
    out: Path,
    space: Space,
    architecture: Architecture | None,
    name: str,
    note: str = "",
    narrowed: Mapping[str, tuple[int, ...]] | None = None,
) -> str:
    """What `write_pinned` writes."""
    indices = {} if architecture is None else architecture.indices
    return pinned(space, indices, name, path_from(out.parent.resolve(), space), note, narrowed)


def path_from(folder: Path, space: Space) -> str:
    """The path of a space's file as a file in the folder names it: a link by its own name, since what it uses may lie
    beside it.

    Raises:
        ArgumentError: the space was not read from a file.
    """
    path = space.source.path
    if path is None:
        raise ArgumentError("a result file names the file of its space, and this space was made from a text")
    if path.suffix == ".safetensors":
        raise ArgumentError("a result file names the file of its space, and this space was read from its weights")
    return os.path.relpath(path.parent.resolve() / path.name, folder).replace(os.sep, "/")


def pinned(
    space: Space,
    values: Mapping[str, Any],
    name: str,
    use_path: str,
    note: str = "",
    narrowed: Mapping[str, tuple[int, ...]] | None = None,
) -> str:
    """The text of a result file: the space, named by its file's path and content, with decisions set to values.

    Args:
        values: by path, as `pin` takes them, beside those that the space was decided by; those of absent decisions are
            left out.
        name: of the new space; numbered where the files of the space have one of that name already.
        use_path: of the space's file, as the result file is to name it (relative to where it will lie).
        note: put above as a comment.
        narrowed: by path of a choice: the options that stay.
    """
    written: dict[str, str] = {}
    graph = space.graph
    whole = graph if space.whole is None else space.whole
    for path in whole.decisions:
        if path not in graph.decisions:
            if path in space.decided and not absent(whole.decisions[path], space.pins):
                written[path] = whole.decisions[path].describe(space.decided[path])
            continue
        decision = graph.decisions[path]
        if path in values and not absent(decision, values):
            written[path] = decision.describe(canonical(decision, values[path]))
        elif narrowed and path in narrowed:
            written[path] = "oneof(" + ", ".join(decision.describe(option) for option in narrowed[path]) + ")"
    together = _alike(graph, written, narrowed or {})
    groups = ["\n".join(_Entry(step, text).lines(INDENT)) for step, text in together.items()]
    apart = {
        path: text for path, text in written.items() if path not in (narrowed or {}) or last_step(path) not in together
    }
    groups += ["\n".join(entry.lines(INDENT)) for entry in _entries(_tree(apart))]
    parts = [" " * INDENT + f"{key}: {unparse_expr(expression(key, text))}" for key, text in space.overrides.items()]
    if groups:
        parts, last = (["\n".join(parts)] if parts else []), "\n"
        for group in groups:  # records of several lines stand apart, the others in paragraphs
            if parts and "\n" not in group and "\n" not in last:
                parts[-1] += f"\n{group}"
            else:
                parts.append(group)
            last = group
    body = "\n\n".join(parts) if groups else "\n".join(parts)
    header = "".join(f"# {line}".rstrip() + "\n" for line in note.splitlines())
    block = f"{{\n{body}\n}}" if body else "{}"
    return f"{header}{used(space, use_path)}\nspace {free_name(space, name)} = {space.name} with {block}\n"


def entries(written: Mapping[str, str], indent: int = INDENT) -> list[str]:
    """The lines of a `with` that give decisions values, by path."""
    return [line for entry in _entries(_tree(written)) for line in entry.lines(indent)]


def last_step(path: str) -> str:
    """What a path ends in, without an index: `backbone.c1[0].op` ends in `op`."""
    return plain_steps(path)[-1]


def plain_steps(path: str) -> list[str]:
    """The steps of a path without indices: `backbone.c1[0].op` has `backbone`, `c1` and `op`."""
    return [step.partition("[")[0] for step in _steps(path)]


def _alike(graph: Graph, written: Mapping[str, str], narrowed: Mapping[str, Any]) -> dict[str, str]:
    """By the last step of their paths: what is written for all decisions that end so, where it is the same list of
    options."""
    found: dict[str, set[str | None]] = {}
    for path in graph.decisions:
        found.setdefault(last_step(path), set()).add(written.get(path) if path in narrowed else None)
    steps = {last_step(path) for path in narrowed}
    return {step: text for step in found if step in steps and len(found[step]) == 1 for text in found[step] if text}


def used(space: Space, use_path: str) -> str:
    """The line that names a space's file, by its path from where the line will stand and by its content."""
    return f'use "{quoted(use_path)}#{space.meaning}"\n'


def free_name(space: Space, name: str) -> str:
    """The name, or the name with a number where a file of the space defines a space of that name already."""
    taken = set()
    for source in space.sources:
        taken |= {item.name.name for item in parse(source).items if isinstance(item, syntax.Space | syntax.Derived)}
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}{number}", number + 1
    return unique


def absent(decision: Decision, values: Mapping[str, Any]) -> bool:
    """Whether a decision is not there under values by path, whatever is still open."""
    try:
        return evaluate(decision.present, values) is False
    except FAULTS:
        return False  # it hangs on decisions that stay open


# --- Paths as nested records ------------------------------------------------------------------------------------------

_STEP = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+")


@dataclass
class _Place:
    """One step of a path with its indices (`exchange[1/4 -> 1/8]`): a value, places under it, or both."""

    value: str | None = None
    inner: dict[str, _Place] = field(default_factory=dict)


def _steps(path: str) -> list[str]:
    """The path in pieces that can each be a key: indices and keywords stay with the step before them."""
    out: list[str] = []
    for step in _STEP.findall(path):
        if out and step.startswith("["):
            out[-1] += step
        elif out and (step in _keywords() or out == ["else"]):
            out[-1] += f".{step}"
        else:
            out.append(step)
    return out


def _keywords() -> frozenset[str]:
    return frozenset(tables().words) - {"x", "step"}


def _tree(written: Mapping[str, str]) -> _Place:
    root = _Place()
    for path, value in written.items():
        place = root
        for step in _steps(path):
            place = place.inner.setdefault(step, _Place())
        place.value = value
    return root


@dataclass
class _Entry:
    """`key: text` or `key: { inner }`."""

    key: str
    text: str = ""
    inner: list[_Entry] = field(default_factory=list)

    def line(self) -> str:
        if not self.inner:
            return f"{self.key}: {self.text}"
        return f"{self.key}: {{ {', '.join(entry.line() for entry in self.inner)} }}"

    def lines(self, indent: int) -> Iterator[str]:
        """The entry at an indent: records of plain values on one line where they fit, all others broken."""
        margin = " " * indent
        line = margin + self.line()
        nested = any(entry.inner for entry in self.inner) and any(e.inner for entry in self.inner for e in entry.inner)
        if len(line) < WIDTH and not nested:
            yield line
        elif self.inner:
            yield f"{margin}{self.key}: {{"
            for entry in self.inner:
                yield from entry.lines(indent + INDENT)
            yield margin + "}"
        elif self.text.startswith("["):
            yield f"{margin}{self.key}: ["
            yield from _filled(self.text[1:-1].split(", "), indent + INDENT)
            yield margin + "]"
        elif self.text.startswith("oneof("):
            yield f"{margin}{self.key}: oneof("
            yield from (" " * (indent + INDENT) + option for option in _options(self.text))
            yield margin + ")"
        else:
            yield line


def _options(text: str) -> list[str]:
    """Those of `oneof(...)`."""
    found, depth, start = [], 0, len("oneof(")
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or at == len(text) - 1:
            found.append(text[start:at].strip())
            start = at + 1
    return found


def _filled(items: list[str], indent: int) -> Iterator[str]:
    line = ""
    for item in items:
        if line and len(line) + len(item) + 2 <= WIDTH:
            line += f", {item}"
            continue
        if line:
            yield line
        line = " " * indent + item
    yield line


def _entries(place: _Place) -> Iterator[_Entry]:
    """What lies under a place. A way without forks is one key; values told apart by a number alone are a record."""
    numbered = _numbered(place)
    for key, inner in place.inner.items():
        stem, bracket, _ = key.partition("[")
        if bracket and stem in numbered:
            if numbered[stem]:
                yield _Entry(stem, inner=numbered[stem])
                numbered[stem] = []
            continue
        if inner.value is not None:
            yield _Entry(key, inner.value)
        entries = list(_entries(inner))
        if len(entries) == 1 or inner.value is not None:
            yield from (_Entry(f"{key}.{entry.key}", entry.text, entry.inner) for entry in entries)
        elif entries:
            yield _Entry(key, inner=entries)


def _numbered(place: _Place) -> dict[str, list[_Entry]]:
    """By name: `hidden[3]` and `hidden[5]` as entries `3` and `5`."""
    found: dict[str, list[_Entry]] = {}
    for key, inner in place.inner.items():
        stem, _, index = key.partition("[")
        if stem and not inner.inner and inner.value is not None and re.fullmatch(r"\d+(/\d+)?\]", index):
            found.setdefault(stem, []).append(_Entry(index[:-1], inner.value))
    whole = {stem for stem in found if sum(key.partition("[")[0] == stem for key in place.inner) == len(found[stem])}
    return {stem: entries for stem, entries in found.items() if stem in whole and len(entries) > 1}


# --- Architectures in full --------------------------------------------------------------------------------------------


def expanded(space: Space, name: str = "") -> str:
    """An architecture written out: one step a line, in the order of the network, without choices or definitions.

    Search units are written as plain widths. It has the same layers, shapes and cost, under shorter names: a letter for
    the scale (`a` the finest) and a running number. Settings sections are left out.

    Raises:
        ArgumentError: the space still has decisions.
    """
    if space.graph.decisions:
        raise ArgumentError(f"`{space.name}` still has decisions, such as `{next(iter(space.graph.decisions))}`")
    shape = space.graph.input.shape
    body = _Straight(space.graph)
    lines = [f"input {shape.channels} x {shape.height} x {shape.width}", ""]
    if body.defaults:
        lines += ["defaults { " + ", ".join(f"{key}: {text}" for key, text in body.defaults.items()) + " }", ""]
    lines += ["network {", *(f"{' ' * INDENT}{line}".rstrip() for line in body.lines()), "}"]
    inside = "".join(f"{' ' * INDENT}{line}".rstrip() + "\n" for line in lines)
    return unparse(parse(Source(f"space {name or space.name} {{\n{inside}}}\n")))


class _Straight:
    """The nodes of an architecture as steps. A node that only one other reads stands in that one's line if it can."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.users = graph.users()
        self.braces = braces(graph)
        self.defaults = self._common_settings()
        scales = sorted({n.shape.scale for n in graph.nodes.values() if n.kind != "output"}, reverse=True)
        self.lanes = {scale: _letters(i) for i, scale in enumerate(scales)}
        self.numbers: dict[str, int] = {}
        self.labels: dict[str, str] = {}
        (output,) = graph.nodes[graph.outputs[0]].inputs
        self.last = output.source

    # --- Settings of operators

    def _common_settings(self) -> dict[str, str]:
        """What all operators that have a parameter set to the same value, other than its default."""
        found: dict[str, set[tuple[str, bool]]] = {}
        for node in self.graph.operators():
            for position, param in enumerate(_operator(node).params):
                if position == 0 and param.default is REQUIRED:
                    continue
                value = node.attrs[param.name]
                found.setdefault(param.name, set()).add((_written(value), _same(value, param.default)))
        several = {key: next(iter(texts)) for key, texts in found.items() if len(texts) == 1}
        return {key: text for key, (text, default) in several.items() if not default and self._is_setting(key)}

    def _is_setting(self, key: str) -> bool:
        """Whether a parameter tunes layers of any kind, rather than being what one kind of operator is about."""
        owners = {node.op for node in self.graph.operators() if key in node.attrs}
        return key in _TUNING or (len(owners) > 1 and key not in ("stride", "kernel", "scale"))

    def call(self, node: Node) -> str:
        """`conv(24, kernel: 3, stride: 2)`"""
        arguments: list[str] = []
        for position, param in enumerate(_operator(node).params):
            value = node.attrs[param.name]
            if param.name in self.defaults or _same(value, param.default):
                continue
            first = position == 0
            arguments.append(_written(value) if first else f"{param.name}: {_written(value)}")
        if node.weight != node.name:
            arguments.append(f"share: {_word(node.weight)}")
        elif "share" in node.attrs:
            arguments.append(f"share: {_written(node.attrs['share'])}")
        return f"{node.op}({', '.join(arguments)})"

    # --- Steps

    def lines(self) -> Iterator[str]:
        if sum(len(node.inputs) for node in self.users["input"]) > 1 or len(self.users["input"]) > 1:
            self.labels["input"] = "image"
            yield "image: {}"
        nodes = self.graph.nodes.values()
        yield from self._run([node for node in nodes if not node.aside], "input", self.last, titles=True)

    def _run(self, nodes: Iterable[Node], before: str, last: str, titles: bool = False) -> Iterator[str]:
        """The steps of a body, which begins with what is made `before` it and ends in what is made `last`."""
        group = ""
        shown = [node for node in nodes if node.kind not in ("input", "output") and not self._inlined(node)]
        for node in shown:
            text, *body = self._side(node, before) if self._has_side(node) else [self._text(node, before)]
            top, *inner = _steps(node.name)[:-1] or [""]
            while len(inner) > 1 and not inner[-1].endswith("]"):
                inner.pop()  # names of operators: the line shows what they are made of
            rest = ".".join(inner)
            if titles and top != group and top:
                yield ""
                yield f"# {top}"
                group = top
            if node.name != last or node is not shown[-1]:
                text = f"{self._label(node)}: {text}"
            if len(text) + len(rest) + 4 + 2 * INDENT > WIDTH:
                yield f"# {rest}"
                rest = ""
            yield f"{text}  # {rest}" if rest else text
            yield from body
            before = node.name
        if before != last:
            yield self.labels[last]

    def _has_side(self, node: Node) -> bool:
        return node.op == AUXILIARY.name and len(node.inputs) > 1

    def _side(self, node: Node, before: str) -> Iterator[str]:
        """`auxiliary(weight: 0.4) {`, the steps of its side, and the end."""
        source, side = (edge.source for edge in node.inputs)
        yield self._from(source, before, f"{node.op}(weight: {_written(node.attrs['weight'])}) {{")
        nodes = self.graph.nodes.values()
        yield from self._run([n for n in nodes if self.braces.get(n.name, ())[-1:] == (node.name,)], source, side)
        yield "}"

    def _label(self, node: Node) -> str:
        if node.name not in self.labels:
            lane = self.lanes[node.shape.scale]
            self.numbers[lane] = self.numbers.get(lane, 0) + 1
            self.labels[node.name] = f"{lane}{self.numbers[lane]}"
        return self.labels[node.name]

    def _inlined(self, node: Node) -> bool:
        """Whether the node stands in the line of the only one that reads it."""
        users = self.users[node.name]
        if node.name == self.last or len(users) != 1 or self._has_side(node):
            return False
        (user,) = users
        if user.kind == "operator" and len(user.inputs) == 1:
            return _top(node.name) == _top(user.name)
        return user.kind == "merge" and user.op == "sum" and self._shared_source(user) is not None

    def _shared_source(self, node: Node) -> str | None:
        """The tensor that all terms of a sum are chains from, where the sum can be written `x -> a + b`."""
        sources = {self._chain(edge.source, node)[0] for edge in node.inputs}
        return sources.pop() if len(sources) == 1 else None

    def _chain(self, name: str, user: Node) -> tuple[str, list[Node]]:
        """The operators that lead to a term of a sum and nowhere else, and where they start."""
        chain: list[Node] = []
        while True:
            node = self.graph.nodes[name]
            if node.kind != "operator" or len(node.inputs) != 1 or len(self.users[name]) != 1 or name == self.last:
                return name, chain[::-1]
            chain.append(node)
            name = node.inputs[0].source

    def _text(self, node: Node, before: str) -> str:
        """The steps of one line. A line that goes on from the line before it does not name it."""
        if node.kind == "merge":
            return self._merge(node, before)
        if len(node.inputs) != 1:
            return f"branches({', '.join(self.labels[e.source] for e in node.inputs)}) -> {self.call(node)}"
        return self._from(node.inputs[0].source, before, self.call(node))

    def _from(self, source: str, before: str, steps: str) -> str:
        if source in self.labels:
            return f"{self.labels[source]} -> {steps}"
        if source == "input":
            return steps
        node = self.graph.nodes[source]
        text = self._text(node, before)
        return f"{text} -> {steps}"

    def _merge(self, node: Node, before: str) -> str:
        sources = [edge.source for edge in node.inputs]
        if node.op == "concat":
            arguments = [self.labels[source] for source in sources]
            for key, default in (("scale", None), ("mode", "bilinear")):
                if _written(node.attrs[key]) != default:
                    arguments.append(f"{key}: {_written(node.attrs[key])}")
            return f"concat({', '.join(arguments)})"
        shared = self._shared_source(node)
        if shared is None:
            return " + ".join(self.labels[source] for source in sources)
        chains = [" -> ".join(self.call(step) for step in self._chain(source, node)[1]) for source in sources]
        if len(chains) == 2 and not chains[0] and chains[1]:
            return self._from(shared, before, f"residual {{ {chains[1]} }}")
        if not all(chains):
            terms = [f"({self.labels[shared]} -> {c})" if c else self.labels[shared] for c in chains]
            return " + ".join(terms)
        return self._from(shared, before, " + ".join(f"({c})" if " -> " in c else c for c in chains))


_TUNING = frozenset({"norm", "norm_groups", "standardise", "act", "eps", "momentum"})


def _operator(node: Node) -> Operator:
    found = ops.find(node.op)
    assert found is not None
    return found


def _top(name: str) -> str:
    """The part of the network that a node belongs to; empty for one that stands alone."""
    steps = _steps(name)
    return steps[0] if len(steps) > 1 else ""


def _letters(number: int) -> str:
    return "abcdefghijklmnopqrstuvwyz"[number] if number < 25 else f"s{number}_"


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _same(value: Any, default: Any) -> bool:
    if default is None or value is None or isinstance(value, bool) or isinstance(default, bool):
        return value is default
    return bool(value == default or (isinstance(default, str) and str(value) == default))


def _written(value: Any) -> str:
    """A value of an operator's parameter as a file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, FixedUnits):
        return str(value.count)
    if isinstance(value, Fraction):
        return _ratio(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + " }"
    return show(value)


def _ratio(value: Fraction) -> str:
    """`1/4`, but `0.001`."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest > 1 or value.denominator & (value.denominator - 1) == 0:
        return f"{value.numerator}/{value.denominator}"
    return f"{float(value):.12g}"
