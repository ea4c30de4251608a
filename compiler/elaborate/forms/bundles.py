"""Sets of branches: what they hold, and how a branch is named and found."""

from __future__ import annotations

from typing import Any

from nasdsl.compiler.diagnostics import Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import Term
from nasdsl.compiler.elaborate.steps import apply, own_place
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr, tree
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr


def branch_name(scale: Value, label: str = "", number: int = 0) -> str:
    """How a path names a branch: by its scale, or where that is searched by its label, or by its number."""
    return (label or str(number)) if isinstance(scale, Expr) else v.show(scale)


def bundle(flow: Flow) -> tuple[Tensor, ...]:
    if flow is None:
        return ()
    return flow.tensors if isinstance(flow, Branches) else (flow,)


def bundled(tensors: list[Tensor]) -> Flow:
    if any(tensor.lost for tensor in tensors):
        return v.LOST
    return Branches(tuple(tensors)) if tensors else None


def guarded(value: Any, span: Span) -> list[tuple[Tensor, Value]]:
    items = (
        value.items
        if isinstance(value, v.Guarded)
        else [(item, True) for item in (value if isinstance(value, tuple) else (value,))]
    )
    for item, _ in items:
        if item is not None and not isinstance(item, Tensor):
            raise error("not-a-tensor", f"labelled tensors are needed here, and one is {v.describe(item)}", span)
    return [(item, there) for item, there in items if item is not None]


def outcomes(items: tuple[Any, ...], flow: Flow, frame: Frame, name: str, span: Span) -> list[Term]:
    """What each of some operators makes of what comes in, and each of some tensors as it is, with the condition under
    which it is there. A list stands for its items.
    """
    listed: list[tuple[Any, Value]] = []
    for item in items:
        if isinstance(item, v.Guarded):
            listed.extend(item.items)
        else:
            listed.extend((one, True) for one in (item if isinstance(item, tuple) else (item,)))
    out: list[Term] = []
    for i, (item, there) in enumerate(listed):
        if there is not False:
            place = own_place(item, span)
            out.append((apply(item, flow, frame.when(there), f"{name}[{i}]", place), there, place))
    return out


def finest(tensors: list[tuple[Tensor, Value]]) -> Value:
    """The largest scale of those that are there."""
    return tree.apply("max", *[expr.choose(expr.both(when, t.present), t.shape.scale, 0) for t, when in tensors])


def at_scale(
    tensors: list[tuple[Tensor, Value]], scale: Value, place: Span, frame: Frame
) -> tuple[list[tuple[Tensor, Value]], Value]:
    """The tensors that may have a scale, each with the condition under which it is there and has it.

    With them the condition under which any tensor is there: that one of that scale is there too is proven.

    Raises:
        CompileError: none has this scale, whatever is chosen.
    """
    cases = [(t, expr.both(when, t.present, expr.equal(t.shape.scale, scale))) for t, when in tensors]
    cases = [(tensor, there) for tensor, there in cases if there is not False]
    known = sorted({t.shape.scale for t, _ in tensors if not isinstance(t.shape.scale, Expr)}, reverse=True)
    help = f"there are {', '.join(map(v.show, known))}" if known else ""
    if not cases:
        raise error("no-such-branch", f"there is no branch at scale {v.show(scale)}", place, help=help)
    anything = expr.either(*[expr.both(when, t.present) for t, when in tensors])
    always = [v.show(s) for s in known if expr.either(*[t.present for t, _ in tensors if t.shape.scale == s]) is True]
    message = f"for some choices there is no branch at scale {v.show(scale)}"
    usage = f"whatever is chosen there are {', '.join(always)}" if always else ""
    missing = Diagnostic("no-such-branch", message, place, help=usage)
    frame.builder.prove(expr.either(*[there for _, there in cases]), frame.when(anything), missing)
    return cases, anything
