"""Tensors meet: they are added, joined, or one of them is selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasdsl.compiler.diagnostics import Label, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame, join, mismatch
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.graph import Edge, Shape
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.tree import Expr

Term = tuple[Flow, Value, Span]
"""A tensor to be merged, the condition under which it takes part, and where the text says so."""


def add_up(terms: list[Term], frame: Frame, name: str, span: Span) -> Flow:
    """The sum of those terms that are there. At least one has to be: the compiler requires it."""
    present = [(flow, when, place) for flow, when, place in terms if flow is not None and when is not False]
    if any(v.is_lost(flow) for flow, _, _ in present):
        return v.LOST
    if any(isinstance(flow, Branches) for flow, _, _ in present):
        return _add_branches(present, frame, name, span)
    tensors: list[tuple[Tensor, Value, Span]] = [
        (flow, when, place) for flow, when, place in present if isinstance(flow, Tensor)
    ]
    if not tensors:
        return None
    alike("added", tensors, frame)
    shape = same_shape("added", tensors, frame)
    return merge("sum", {}, [(tensor, when) for tensor, when, _ in tensors], shape, frame, name, span)


def same_shape(
    joined: str, tensors: Sequence[tuple[Tensor, Value, Span]], frame: Frame, resized: bool = False
) -> Shape:
    """The width and scale, which have to agree, of those tensors that are there and are to be `joined`. Where they are
    `resized` it is the scale of the first one that is there.
    """
    (first, first_when, first_place), *others = tensors
    before, conditions = first.shape, [expr.both(first_when, first.present)]
    for tensor, when, place in others:
        shape, there = tensor.shape, expr.both(when, tensor.present)
        alike = expr.both(expr.equal(shape.channels, before.channels), expr.equal(shape.scale, before.scale))
        if not follows(alike, there):
            some = expr.either(*conditions)
            inner = frame.when(expr.both(there, some))
            message = f"these cannot be {joined}: their widths differ"
            check_equal(shape.channels, before.channels, "width-mismatch", message, inner, place, first_place)
            if shape.height is not None and not resized:
                message = f"these cannot be {joined}: their scales differ"
                check_equal(shape.scale, before.scale, "scale-mismatch", message, inner, place, first_place)
            channels, scale = (
                expr.choose(some, earlier, own)
                for own, earlier in ((shape.channels, before.channels), (shape.scale, before.scale))
            )
            before = replace(before, channels=channels, scale=scale)
        conditions.append(there)
    return before


def kind_of(tensor: Tensor) -> str:
    return "a vector" if tensor.shape.height is None else "a feature map"


def alike(joined: str, terms: Sequence[tuple[Tensor, Value, Span]], frame: Frame) -> None:
    """That tensors which are to be `joined` are all maps or all vectors, and as many of them for each image.

    Raises:
        CompileError: a map and a vector are to be joined.
    """
    (first, first_when, first_place), *further = terms
    for tensor, when, place in further:
        if (tensor.shape.height is None) != (first.shape.height is None):
            message = f"these cannot be {joined}: one is a feature map, the other a vector"
            where = (Label(first_place, f"this is {kind_of(first)}"),)
            usage = "`global_pool()` makes a vector of a map"
            raise error("kind-mismatch", message, place, f"this is {kind_of(tensor)}", others=where, help=usage)
        if _are_tokens(first.shape, tensor.shape) or _are_tokens(tensor.shape, first.shape):
            others = () if place == first_place else (Label(first_place, "with this"),)
            message = f"these cannot be {joined}: one is a sequence of tokens, the other a map"
            help = "`to_tokens()` makes tokens of a map, `to_map()` a map of tokens"
            raise error("kind-mismatch", message, place, others=others, help=help)
        inner = frame.when(expr.both(first_when, first.present, when, tensor.present))
        message = f"these cannot be {joined}: an image gives more of one than of the other"
        check_equal(tensor.shape.items, first.shape.items, "items-mismatch", message, inner, place, first_place)


def _are_tokens(one: Shape, other: Shape) -> bool:
    """Whether one is plainly a sequence of tokens beside a map of its scale: of width 1, and longer than the map."""
    sides = (one.height, one.width, other.height, other.width)
    if one.scale != other.scale or not all(isinstance(side, int) for side in sides):
        return False
    length, width, height, across = sides
    return bool(width == 1 and across > 1 and length >= height * across)


def merge(
    op: str,
    attrs: Mapping[str, Any],
    tensors: list[tuple[Tensor, Value]],
    shape: Shape,
    frame: Frame,
    name: str,
    span: Span,
) -> Tensor:
    """A merge node, or the only tensor there is. Where every input can be absent, that at least one is there becomes a
    requirement.
    """
    conditions = [expr.both(when, tensor.present) for tensor, when in tensors]
    live = expr.either(*conditions)
    if live is not True and not frame.builder.some_chosen(conditions):
        frame.builder.require(
            live, frame, f"something reaches the {op} at {join(frame.path, name) or name}", "live", span
        )
    if len(tensors) == 1:
        return replace(tensors[0][0], present=True)
    if op != "concat":  # the others are brought to the size of the first that is there
        for (tensor, _), held in reversed(list(zip(tensors, conditions, strict=True))):
            height, width = (
                None if there is None else expr.choose(held, there, other)
                for there, other in ((tensor.shape.height, shape.height), (tensor.shape.width, shape.width))
            )
            shape = replace(shape, height=height, width=width)
    edges = tuple(Edge(tensor.node, held) for (tensor, _), held in zip(tensors, conditions, strict=True))
    made = frame.builder.node(join(frame.path, name), "merge", op, attrs, edges, shape, frame.present, span)
    return replace(made, present=True)


def _add_branches(present: Sequence[Term], frame: Frame, name: str, span: Span) -> Branches:
    bundles = [flow if isinstance(flow, Branches) else Branches((flow,)) for flow, _, _ in present if flow is not None]
    if len({len(bundle.tensors) for bundle in bundles}) != 1:
        raise error("branch-mismatch", "sets of branches of different size cannot be added", span)
    out = []
    for i in range(len(bundles[0].tensors)):
        terms: list[Term] = [
            (bundle.tensors[i], when, place) for bundle, (_, when, place) in zip(bundles, present, strict=True)
        ]
        total = add_up(terms, frame, f"{name}[{i}]", span)
        assert isinstance(total, Tensor)
        out.append(total)
    return Branches(tuple(out))


def check_equal(
    a: Value, b: Value, code: str, message: str, frame: Frame, place: Span, other: Span, help: str = ""
) -> bool:
    """That two shapes agree for every choice: an error at once, or something to prove. False where they don't."""
    same = expr.equal(a, b)
    if same is True:
        return True
    diagnostic = mismatch(code, message, place, f"this is {v.show(a)}", other, f"this is {v.show(b)}", help)
    return frame.builder.prove(same, frame, diagnostic, (a, b))


def select(outcomes: list[tuple[Value, Flow]], frame: Frame, span: Span) -> Flow:
    """The one outcome whose condition holds. The conditions exclude each other."""
    there = [(test, flow) for test, flow in outcomes if test is not False and flow is not None]
    if not there:
        return None
    if any(v.is_lost(flow) for _, flow in there):
        return v.LOST
    if len(there) == 1 and there[0][0] is True:
        return there[0][1]
    if any(isinstance(flow, Branches) for _, flow in there):
        return _select_branches([(test, flow) for test, flow in outcomes if test is not False], frame, span)
    tensors: list[tuple[Value, Tensor]] = [(test, flow) for test, flow in there if isinstance(flow, Tensor)]
    for _, tensor in tensors[1:]:
        if (tensor.shape.height is None) != (tensors[0][1].shape.height is None):
            first = tensors[0][1]
            raise error(
                "kind-mismatch",
                "some alternatives give a feature map and some a vector",
                tensor.span or span,
                f"this gives {kind_of(tensor)}",
                others=(Label(first.span or span, f"this gives {kind_of(first)}"),),
                help="end all alternatives alike: `global_pool()` makes a vector of a map",
            )
    present = expr.either(*[expr.both(test, tensor.present) for test, tensor in tensors])
    if len(outcomes) == len(there) and all(tensor.present is True for _, tensor in tensors):
        present = True
    shape = tensors[-1][1].shape
    for test, tensor in reversed(tensors[:-1]):
        shape = choose_shape(test, tensor.shape, shape)
    edges = tuple(Edge(tensor.node, test) for test, tensor in tensors)
    node = frame.builder.node(frame.path, "select", "select", {}, edges, shape, expr.both(frame.present, present), span)
    return replace(node, present=present)


def or_else(flow: Flow, otherwise: Flow, frame: Frame, span: Span) -> Flow:
    """The flow where it is there, something else where it is not."""
    parts = flow.tensors if isinstance(flow, Branches) else (flow,) if flow is not None else ()
    present = expr.either(*[tensor.present for tensor in parts])
    if present is True or v.is_lost(flow) or v.is_lost(otherwise):
        return flow
    return select([(present, flow), (expr.negate(present), otherwise)], frame, span)


def choose_shape(test: Value, then: Shape, otherwise: Shape) -> Shape:
    """Of two maps, or of two vectors."""
    return Shape(
        expr.choose(test, then.channels, otherwise.channels),
        None if then.height is None else expr.choose(test, then.height, otherwise.height),
        None if then.width is None else expr.choose(test, then.width, otherwise.width),
        expr.choose(test, then.scale, otherwise.scale),
        expr.choose(test, then.items, otherwise.items),
    )


def _select_branches(outcomes: Sequence[tuple[Value, Flow]], frame: Frame, span: Span) -> Branches:
    """Level by level, of several at one scale the first with the first; one can be missing under some alternatives."""
    by_scale: dict[tuple[Any, int], list[tuple[Value, Flow]]] = {}
    for test, flow in outcomes:
        seen: list[Value] = []
        for tensor in flow.tensors if isinstance(flow, Branches) else (flow,) if flow is not None else ():
            scale = tensor.shape.scale
            by_scale.setdefault((scale, seen.count(scale)), []).append((test, tensor))
            seen.append(scale)
    out: list[Tensor] = []
    if not any(isinstance(scale, Expr) for scale, _ in by_scale):  # finest first, whichever alternative comes first
        by_scale = dict(sorted(by_scale.items(), key=lambda level: (-level[0][0], level[0][1])))
    for (scale, _), cases in by_scale.items():
        missing = [(test, None) for test, _ in outcomes if all(test != other for other, _ in cases)]
        chosen = select([*cases, *missing], frame.under(f"[{v.show(scale)}]"), span)
        assert isinstance(chosen, Tensor)
        out.append(chosen)
    return Branches(tuple(out))


def where_there(flow: Flow, frame: Frame, act: Callable[[Flow, Frame], Flow]) -> Flow:
    """What is made of a tensor is there where the tensor is, and asks for nothing elsewhere."""
    if not isinstance(flow, Tensor) or flow.lost or flow.present is True:
        return act(flow, frame)
    return only_where(act(replace(flow, present=True), frame.when(flow.present)), flow.present)


def only_where(flow: Flow, there: Value) -> Flow:
    """The same under one more condition."""
    if isinstance(flow, Branches):
        return Branches(tuple([replace(t, present=expr.both(t.present, there)) for t in flow.tensors]))
    return flow if flow is None else replace(flow, present=expr.both(flow.present, there))
