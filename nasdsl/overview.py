"""What a space holds, in figures: decisions by declaration and stage, size, costs, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from nasdsl.compiler import syntax
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import partial
from nasdsl.compiler.count import Count, brief, decimal
from nasdsl.compiler.count import count as count_exactly
from nasdsl.compiler.decision import Decision, FixedUnits, Units
from nasdsl.compiler.elaborate.values import show
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.measures import DEFAULT, find
from nasdsl.compiler.measures.measure import sized
from nasdsl.compiler.source import Span
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.as_json import to_json
from nasdsl.compiler.values.tree import Case, Expr, Remembering, Slot, evaluate
from nasdsl.drawing.paths import STEP, stage_of
from nasdsl.terminal import table, thousands

if TYPE_CHECKING:
    from nasdsl.compiler.population import Extreme

# --- Patterns of paths ------------------------------------------------------------------------------------------------


def pattern(paths: Sequence[str]) -> str:
    """One way to write several paths: `stage[*].parallel[*].repeat[*].searching.mixconv.hidden[3]`.

    Where the paths differ in more than indices, what they end in.
    """
    split = [STEP.findall(path) for path in paths]
    shared: list[str] = []
    for steps in zip(*(reversed(steps) for steps in split), strict=False):
        different = set(steps)
        if len(different) == 1:
            shared.append(steps[0])
        elif all(step.startswith("[") for step in different):
            shared.append("[*]")
        else:
            break
    whole = all(len(steps) == len(shared) for steps in split)
    while not whole and shared and shared[-1].startswith("["):
        shared.pop()
    text = "".join(step if step.startswith("[") else f".{step}" for step in reversed(shared)).removeprefix(".")
    return text if whole else f"….{text}" if text else f"{paths[0]}, …"


def factor_rows(size: Count) -> list[tuple[str, str, str, str]]:
    """Factor, copies, decisions in each copy, and which these are."""
    rows = []
    for factor in size.factors:
        if factor.count == 1:
            continue
        each = len(factor.groups[0])
        parts = [pattern(paths) for paths in zip(*factor.groups, strict=True)]
        rows.append((str(factor), str(factor.copies), str(each), _joined(parts)))
    return rows


def _joined(parts: list[str]) -> str:
    """Paths with what they have in common at the front said once."""
    if len(parts) == 1:
        return parts[0]
    split = [STEP.findall(part) for part in parts]
    common = 0
    while all(len(steps) > common + 1 and steps[common] == split[0][common] for steps in split):
        common += 1
    head = "".join(s if s.startswith("[") else f".{s}" for s in split[0][:common]).removeprefix(".")
    rests = ["".join(s if s.startswith("[") else f".{s}" for s in steps[common:]).removeprefix(".") for steps in split]
    shown = ", ".join(dict.fromkeys(rests))
    if len(shown) > 90:
        shown = ", ".join(list(dict.fromkeys(rests))[:3]) + ", …"
    return f"{head}: {shown}" if head else shown


# --- The summary ------------------------------------------------------------------------------------------------------


def declaration_rows(graph: Graph) -> list[tuple[str, ...]]:
    """Place, expression, decisions, values of each, and which these are, for every declaration."""
    made: dict[str, list[Decision]] = {}
    for decision in graph.decisions.values():
        made.setdefault(decision.declaration or decision.path, []).append(decision)
    rows: list[tuple[str, ...]] = []
    for decisions in made.values():
        first = decisions[0]
        words = " ".join(first.span.text.split()) if first.span is not None else first.kind
        words = words if len(words) <= 36 else words[:35] + "…"
        paths = [decision.path for decision in decisions]
        rows.append((_place(first.span), words, f"{len(decisions):,}", _sizes(decisions), pattern(paths)))
    return rows


def _place(span: Span | None) -> str:
    if span is None:
        return ""
    return f"{span.source.name.replace(chr(92), '/').rsplit('/', 1)[-1]}:{span.line}:{span.column}"


def _sizes(decisions: list[Decision]) -> str:
    sizes = sorted({decision.cardinality() for decision in decisions})
    return brief(sizes[0]) if len(sizes) == 1 else f"{brief(sizes[0])} to {brief(sizes[-1])}"


def stage_rows(
    graph: Graph, size: Count | None, dearest: Architecture | None, measures: Sequence[str] = DEFAULT
) -> list[tuple[str, ...]]:
    """Stage, decisions, layers, architectures, and the measures of the dearest architecture."""
    stages: dict[str, list[Node]] = {}
    costed: dict[str, list[Node]] = {}  # with sums and concatenations, which are no layers
    for node in graph.operators():
        stages.setdefault(stage_of(node.name), []).append(node)
    for node in evaluated(graph).nodes.values():
        if node.kind in ("operator", "merge"):
            costed.setdefault(stage_of(node.name), []).append(node)
    decisions: dict[str, int] = {}
    for path in graph.decisions:
        decisions[stage_of(path)] = decisions.get(stage_of(path), 0) + 1
    sizes: dict[str, int] = {}
    for factor in size.factors if size is not None else ():
        for group in factor.groups:
            where = {stage_of(path) for path in group}
            key = where.pop() if len(where) == 1 else "together"
            sizes[key] = sizes.get(key, 1) * factor.count
    rows: list[tuple[str, ...]] = []
    names = [*dict.fromkeys([*decisions, *stages])] if len(stages) == 0 else [*stages]
    names += [name for name in (*decisions, *sizes) if name not in names]
    for name in dict.fromkeys(names):
        nodes = stages.get(name, [])
        amounts = ["?"] * len(measures)
        if dearest is not None:
            amounts = [thousands(total) for total in _costs(graph, costed.get(name, []), dearest, measures)]
        rows.append(
            (
                name,
                str(decisions.get(name, 0) or "-"),
                str(len(nodes) or "-"),
                brief(sizes[name]) if sizes.get(name, 1) != 1 else "-",
                *(amount if nodes else "-" for amount in amounts),
            )
        )
    return rows


def _costs(graph: Graph, nodes: Sequence[Node], values: Architecture, measures: Sequence[str]) -> list[int | float]:
    """What nodes add to measures. Weights that are shared with other stages belong to none alone."""
    here = Counter(node.weight for node in nodes)
    users = Counter(node.weight for node in evaluated(graph).nodes.values())
    own = [node for node in nodes if here[node.weight] == users[node.weight]]
    known = Remembering(values.indices)
    found: list[int | float] = []
    for measure in map(find, measures):
        total = partial(graph, measure.name, nodes if measure.shared == "each" else own)
        found.append(measure.amount(int(evaluate(total, known))))
    return found


def shape_of(shape: Shape) -> str:
    """`64 x 56 x 56`, with what hangs on decisions shortly."""
    parts = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
    return " x ".join(_value(part) for part in parts)


def _value(value: Any) -> str:
    """A value over decisions, shortly."""
    if isinstance(value, FixedUnits):
        return f"{value.count} of {value.n}"
    if isinstance(value, Units):
        return f"units({value.n})"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{show(k)}: {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Case | Slot):
        return "|".join(show(v) for v in dict.fromkeys(value.values))
    if isinstance(value, Expr):
        return "…"
    return show(value)


def summary(space: Space, measures: Sequence[str] = DEFAULT) -> str:
    """All that can be said about a space without torch.

    Args:
        measures: whose ranges are told.
    """
    graph = space.graph
    size, found, notes = _figures(graph, measures)
    output = graph.nodes[graph.outputs[0]]
    derived = f" (from {space.base})" if space.base and space.base != space.name else ""
    lines = [f"{space.name}{derived}", ""]
    facts = [
        ("input", shape_of(graph.input.shape)),
        ("output", shape_of(output.shape)),
        ("layers", thousands(sum(1 for _ in graph.operators()))),
        ("decisions", thousands(len(graph.decisions))),
        ("size", str(size) if size is not None else "not known exactly"),
    ]
    if found is not None:
        for name in measures:
            low, high = (end.cost for end in found[name])
            facts.append(
                (find(name).label, thousands(low) if low == high else f"{thousands(low)} to {thousands(high)}")
            )
    params = {k: v for k, v in space.params.items() if k in space.overrides}
    if params:
        facts.append(("set", ", ".join(f"{k}: {show(v)}" for k, v in params.items())))
    lines.append(table(facts))
    lines += [f"  note: {note}" for note in notes]
    rows = declaration_rows(graph)
    if rows:
        lines += ["", table(rows, ("declared at", "as", "decisions", "values each", "which"), right="2")]
    dearest = found["macs"][1].architecture if found is not None else None
    rows = stage_rows(graph, size, dearest, measures)
    labels = [f"{find(name).label}, at most" if name == "macs" else find(name).label for name in measures]
    head = ("stage", "decisions", "layers", "architectures", *labels)
    lines += ["", table(rows, head, right="".join(map(str, range(1, len(head)))))]
    return "\n".join(lines)


def _figures(
    graph: Graph, measures: Sequence[str]
) -> tuple[Count | None, dict[str, tuple[Extreme, Extreme]] | None, list[str]]:
    """Size and costs as far as they are known exactly, and what has to be said about them."""
    from nasdsl.compiler.population import extremes_of

    notes = []
    size: Count | None = None
    found: dict[str, tuple[Extreme, Extreme]] | None = None
    try:
        size = count_exactly(graph)
        if size.budgets_left_out:
            budgets = ", ".join(f"`{r.message}`" for r in size.budgets_left_out)
            notes.append(f"size and costs are those of the space without its budgets: {budgets}")
    except TooWide as problem:
        notes.append(problem.message)
    try:
        found = extremes_of(graph, measures)
    except TooWide as problem:
        if problem.message not in notes:
            notes.append(problem.message)
    return size, found, notes


def summary_to_json(space: Space, measures: Sequence[str] = DEFAULT) -> dict[str, Any]:
    graph = space.graph
    size, found, notes = _figures(graph, measures)
    output = graph.nodes[graph.outputs[0]]
    return {
        "space": space.name,
        "digest": space.digest(),
        "params": {name: show(value) for name, value in space.params.items()},
        "input": to_json(_axes(graph.input.shape)),
        "output": to_json(_axes(output.shape)),
        "layers": sum(1 for _ in graph.operators()),
        "decisions": {path: _decision_to_json(decision) for path, decision in graph.decisions.items()},
        "size": decimal(size.total) if size is not None else None,
        "costs": {name: {"least": low.cost, "greatest": high.cost} for name, (low, high) in (found or {}).items()},
        "notes": notes,
    }


def _axes(shape: Shape) -> tuple[Any, ...]:
    return (shape.channels,) if shape.height is None else (shape.channels, shape.height, shape.width)


# --- The supernet -----------------------------------------------------------------------------------------------------


def supernet_memory(graph: Graph) -> dict[str, int]:
    """Bytes of the supernet in float32: weights, buffers, and the outputs of its layers for one input."""
    import torch

    from nasdsl.compiler.largest import largest_node
    from nasdsl.compiler.supernet import Supernet

    with torch.device("meta"):  # shapes without storage
        network = Supernet(graph)
    outputs = 0
    for node in graph.nodes.values():
        _, _, shape = largest_node(graph, node)
        outputs += prod(int(axis) for axis in _axes(shape))
    return {
        "weights": sum(p.numel() * p.element_size() for p in network.parameters()),
        "buffers": sum(b.numel() * b.element_size() for b in network.buffers()),
        "outputs": 4 * outputs,
    }


def supernet_line(graph: Graph) -> str:
    """The memory of the supernet in words."""
    found = supernet_memory(graph)
    weights = found["weights"]
    rows = [
        ("weights", sized(weights + found["buffers"]), f"{weights // 4:,} parameters in float32"),
        ("training", sized(4 * weights + found["buffers"]), "with gradients and the two averages of Adam"),
        ("outputs", sized(found["outputs"]), "of all layers for one input, at their widest"),
    ]
    return "\nsupernet\n" + table(rows, right="1")


# --- The graph --------------------------------------------------------------------------------------------------------


def graph_to_text(graph: Graph) -> str:
    """One line a node: name, operator, inputs, shape of the output, and whether it is always there."""
    numbers = {name: str(i) for i, name in enumerate(graph.nodes)}
    rows = []
    for node in graph.nodes.values():
        inputs = ", ".join(numbers[edge.source] + ("" if edge.when is True else "?") for edge in node.inputs)
        there = "" if node.present is True else "sometimes"
        rows.append(
            (numbers[node.name], node.name, node.op, inputs, shape_of(node.shape), show(node.shape.scale), there)
        )
    return table(rows, ("", "node", "operator", "reads", "output", "scale", ""), right="0", indent=0)


def graph_to_json(space: Space) -> dict[str, Any]:
    """The graph as data; values over decisions in the form of `as_json.to_json`."""
    graph = space.graph
    return {
        "format": "nasdsl graph 1",
        "space": space.name,
        "digest": space.digest(),
        "decisions": [{"path": path, **_decision_to_json(d)} for path, d in graph.decisions.items()],
        "nodes": [_node_to_json(node) for node in graph.nodes.values()],
        "requirements": [
            {"condition": to_json(r.condition), "message": r.message, "origin": r.origin} for r in graph.requirements
        ],
        "outputs": list(graph.outputs),
    }


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": node.kind,
        "op": node.op,
        "attrs": {key: to_json(value) for key, value in node.attrs.items()},
        "inputs": [{"from": edge.source, "when": to_json(edge.when)} for edge in node.inputs],
        "shape": to_json(_axes(node.shape)),
        "scale": to_json(node.shape.scale),
        "reached": to_json(node.reached),
        "present": to_json(node.present),
        "weight": node.weight,
        "at": _place(node.span),
    }


def _decision_to_json(decision: Decision) -> dict[str, Any]:
    out: dict[str, Any] = {
        "kind": decision.kind,
        "values": decimal(decision.cardinality()),
        "at": _place(decision.span),
    }
    if decision.kind == "units":
        out["units"] = decision.n
    else:
        out["items"] = list(decision.labels) or [str(item) for item in decision.items]
    if decision.kind == "subset":
        out["size"] = decision.size
    if decision.present is not True:
        out["present"] = to_json(decision.present)
    return out


# --- The syntax tree --------------------------------------------------------------------------------------------------


def tree_to_json(node: Any) -> Any:
    """A syntax tree as data: the kind of each node, its parts, and where it stands."""
    if isinstance(node, tuple):
        return [tree_to_json(item) for item in node]
    if isinstance(node, syntax.Node):
        parts = {f.name: tree_to_json(getattr(node, f.name)) for f in fields(node) if not f.name.endswith("span")}
        return {"node": type(node).__name__, "line": node.span.line, "column": node.span.column, **parts}
    return str(node) if isinstance(node, Fraction) else node


def tree_to_text(node: Any, name: str = "", indent: int = 0) -> str:
    """A syntax tree, one node a line."""
    margin = "  " * indent + (f"{name}: " if name else "")
    if isinstance(node, tuple):
        if not node:
            return f"{margin}()"
        return "\n".join([f"{margin}(", *(tree_to_text(item, "", indent + 1) for item in node), "  " * indent + ")"])
    if not isinstance(node, syntax.Node):
        return f"{margin}{node!r}" if isinstance(node, str) else f"{margin}{node}"
    parts = [(f.name, getattr(node, f.name)) for f in fields(node) if not f.name.endswith("span")]
    if not any(isinstance(part, syntax.Node | tuple) for _, part in parts):
        words = " ".join(f"{part!r}" if isinstance(part, str) else f"{part}" for _, part in parts if part is not None)
        return f"{margin}{type(node).__name__} {words}".rstrip()
    lines = [f"{margin}{type(node).__name__}  {node.span.line}:{node.span.column}"]
    return "\n".join(lines + [tree_to_text(part, key, indent + 1) for key, part in parts if part is not None])
