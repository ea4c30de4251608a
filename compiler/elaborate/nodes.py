"""Operators of the catalogue become nodes of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.graph import Edge, Shape
from nasdsl.compiler.ops.operator import Operator, ShapeProblem
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Apply, Value
from nasdsl.compiler.values.plain import Symbol


def apply_operator(
    operator: Operator, arguments: Mapping[str, Any], flow: Flow, frame: Frame, span: Span, spans: Mapping[str, Span]
) -> Flow:
    """Adds a node for an operator of the catalogue."""
    if flow is None:
        if frame.builder.ended is not None:
            message = "nothing comes in here, so that this step is in no network"
            where = (Label(frame.builder.ended, "nothing comes out of this"),)
            help = "to leave a step out and keep what comes in, write `identity()` where `none` stands"
            warning = Diagnostic("nothing-comes-in", message, span, others=where, help=help, severity="warning")
            frame.builder.report([warning])
        return None
    if isinstance(flow, Branches) and operator.inputs == 1:
        if len(flow.tensors) != 1:
            raise error(
                "several-branches",
                f"`{operator.name}` takes one tensor, and {len(flow.tensors)} branches come in",
                span,
                help="apply it to each with `parallel { ... }`, or join them with `concat(scale: ...)` or `pick(...)`",
            )
        flow = flow.tensors[0]
    tensors = flow.tensors if isinstance(flow, Branches) else (flow,)
    return node_for(operator, arguments, tensors, frame, span, spans)


def node_for(
    operator: Operator,
    arguments: Mapping[str, Any],
    tensors: tuple[Tensor, ...],
    frame: Frame,
    span: Span,
    spans: Mapping[str, Span],
) -> Tensor:
    if any(tensor.lost for tensor in tensors):
        return v.LOST
    shapes, arrives = _read(operator, tensors)

    def told(problem: ShapeProblem) -> Diagnostic:
        text = problem.message
        message = text if text.startswith(operator.name) else f"`{operator.name}`: {text}"
        return Diagnostic("bad-shape", message, spans.get(problem.param, span), help=problem.help)

    try:
        shape = operator.shape(shapes, arguments)
    except ShapeProblem as problem:
        raise CompileError([told(problem)]) from None
    possible = True
    for held, what in operator.must(shapes, arguments):
        compared = held.args if isinstance(held, Apply) and held.function in ("divides", "eq") else ()
        possible = frame.builder.prove(held, frame.when(arrives), told(what), compared) and possible
    for held in _fellows(operator, tensors):
        missing = ShapeProblem(
            f"{operator.name} reads {operator.groups} lists of inputs, and they have to be of one length"
        )
        possible = frame.builder.prove(held, frame.when(arrives), told(missing)) and possible
    if not possible:
        return v.LOST
    alive = expr.both(arrives, operator.alive(arguments))
    edges = tuple(Edge(tensor.node, tensor.present) for tensor in tensors)
    share = arguments.get("share")
    weight = frame.weight
    if isinstance(share, Symbol):  # with its other copies, with all steps that say the same word, or with none
        weight = {"weights": _shared_name(frame.path), "none": ""}.get(share.word, f"shared {share.word}")
    attrs = {name: value for name, value in arguments.items() if name != "share" or not isinstance(share, Symbol)}
    if weight:
        _check_tied(operator, attrs, weight, frame, span)
    reached, present = expr.both(frame.present, arrives), expr.both(frame.present, alive)
    tensor = frame.builder.node(
        frame.path, "operator", operator.name, attrs, edges, shape, present, span, weight, reached
    )
    return replace(tensor, present=alive)


KINDS = ("norm", "bias", "position", "transform")
"""Parameters that say which weights there are, and not how many."""


def _check_tied(operator: Operator, attrs: Mapping[str, Any], weight: str, frame: Frame, span: Span) -> None:
    """That a step has the kinds of weights that the first step of the same weights has.

    Raises:
        CompileError: it has others.
    """
    kinds = {name: expr.options(attrs[name]) for name in KINDS if name in attrs}
    op, first, place = frame.builder.tied.setdefault(weight, (operator.name, kinds, span))
    differs = [f"`{name}`" for name in kinds if kinds[name] != first.get(name)]
    if op != operator.name or differs:
        message = f"steps that share weights cannot differ in {' and '.join(differs)}"
        if op != operator.name:
            message = f"steps that share weights are of one operator, not of `{op}` and `{operator.name}`"
        others = () if place == span else (Label(place, "has the same weights"),)
        raise error("tied-weights", message, span, others=others, help="`share: none` gives a step weights of its own")


def _read(operator: Operator, tensors: tuple[Tensor, ...]) -> tuple[list[Shape], Value]:
    """The shapes that an operator's rules see, and the condition under which it has what it reads.

    Of any number of inputs it reads those that are there. One that is not there counts as a map without pixels, for the
    rest like one that is, so that what must hold of those that are there can be asked of all.
    """
    shapes = [tensor.shape for tensor in tensors]
    last = len(tensors) - operator.needs if operator.inputs < 0 else 0
    needed = expr.both(*[tensor.present for tensor in tensors[last:]])
    there = [tensor.present for tensor in tensors[:last]]
    if all(present is True for present in there):
        return shapes, needed
    each = last // operator.groups if last % operator.groups == 0 else last
    for start in range(0, last, each):
        shapes[start : start + each] = _as_if_there(shapes[start : start + each], there[start : start + each])
    return shapes, expr.both(needed, expr.either(*there))


def _fellows(operator: Operator, tensors: tuple[Tensor, ...]) -> Iterator[Value]:
    """That inputs of one place in the groups of an operator are there together."""
    each = len(tensors) // operator.groups
    if operator.groups == 1 or each * operator.groups != len(tensors):
        return
    for place, tensor in enumerate(tensors[each:], each):
        one, other = tensors[place % each].present, tensor.present
        if one is not other and one != other:
            yield expr.either(expr.both(one, other), expr.both(expr.negate(one), expr.negate(other)))


def _as_if_there(shapes: list[Shape], there: list[Value]) -> list[Shape]:
    """Shapes that equal the others of their group where they are not there."""
    like = shapes[-1]
    for present, shape in reversed(list(zip(there, shapes, strict=True))[:-1]):
        like = replace(
            like,
            channels=expr.choose(present, shape.channels, like.channels),
            items=expr.choose(present, shape.items, like.items),
        )
    return [
        replace(
            shape,
            channels=expr.choose(present, shape.channels, like.channels),
            height=None if shape.height is None else expr.choose(present, shape.height, 0),
            width=None if shape.width is None else expr.choose(present, shape.width, 0),
            items=expr.choose(present, shape.items, like.items),
        )
        for present, shape in zip(there, shapes, strict=True)
    ]


def _shared_name(path: str) -> str:
    """The path without its copy numbers: one set of weights for all copies of a step."""
    ends = [0, *[end for _, end in copies_in(path)]]
    starts = [*[start for start, _ in copies_in(path)], len(path)]
    return "".join(path[end:start] for end, start in zip(ends, starts, strict=True))


def copies_in(path: str) -> tuple[tuple[int, int], ...]:
    """Where the copy numbers stand in a path."""
    found, depth, first = [], 0, 0
    for at, character in enumerate(path):
        if character == "[":
            first = at if not depth else first
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                found.append((first, at + 1))
    return tuple(found)
