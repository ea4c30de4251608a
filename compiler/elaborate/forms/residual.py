"""`residual { ... }`: what comes in is added to what the body makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from nasdsl.compiler import bound, ops
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.arguments import default_of
from nasdsl.compiler.elaborate.frame import Frame, join, mismatch
from nasdsl.compiler.elaborate.merging import add_up, choose_shape, kind_of, where_there
from nasdsl.compiler.elaborate.nodes import node_for
from nasdsl.compiler.elaborate.steps import apply, run_braces
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Edge
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr, tree
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import Symbol


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if isinstance(flow, Branches):
        raise error(
            "several-branches",
            "`residual` takes one tensor, and several branches come in",
            span,
            help="use it inside `parallel { ... }`",
        )
    return where_there(flow, frame, partial(_with_shortcut, value, span))


def _with_shortcut(value: v.Invocation, span: Span, flow: Flow, frame: Frame) -> Flow:
    if value.block is None:
        inside = apply(value.arguments["operator"], flow, frame, "", span)
    else:
        inside = run_braces(value, flow, frame)
    if not isinstance(flow, Tensor) or inside is None:
        return inside if flow is None else flow
    if v.is_lost(flow) or v.is_lost(inside):
        return v.LOST
    if isinstance(inside, Branches):
        message = "`residual` adds one tensor, and its body ends in a set of branches"
        raise error("several-branches", message, span, help="end the body with `concat()`, `sum()` or `pick(...)`")
    if (flow.shape.height is None) != (inside.shape.height is None):
        raise error(
            "kind-mismatch",
            f"`residual` gets {kind_of(flow)}, and its body ends in {kind_of(inside)}: they cannot be added",
            span,
            help="leave out of the body what takes the mean over all pixels",
        )
    kept = flow.shape.scale == inside.shape.scale
    stride = 1 if kept else expr.divide(flow.shape.scale, inside.shape.scale)
    finer = mismatch(
        "scale-mismatch",
        "the body of `residual` ends at a scale that no stride leads to from its input",
        span,
        f"this is {v.show(inside.shape.scale)}",
        flow.span,
        f"this is {v.show(flow.shape.scale)}",
        "end the body at the scale that comes in, or at one that a stride leads to",
    )
    whole = expr.equal(stride, tree.apply("max", 1, tree.apply("floor", stride)))
    if not frame.builder.prove(whole, frame, finer, (inside.shape.scale, flow.shape.scale)):
        return v.LOST
    shortcut = _shortcut(flow, inside, stride, frame, span)
    return add_up([(shortcut, True, span), (inside, True, span)], frame, "residual", span)


OF_SHORTCUTS = ("norm", "norm_groups", "standardise", "eps", "momentum")
"""Parameters of a shortcut's convolution that follow the section `defaults`; the others say what a shortcut is."""


def _shortcut(flow: Tensor, inside: Tensor, stride: Value, frame: Frame, span: Span) -> Tensor:
    """The identity where the shape stays, else a strided 1x1 convolution with norm."""
    same = expr.both(expr.equal(flow.shape.channels, inside.shape.channels), expr.equal(stride, 1))
    if same is True:
        return flow
    conv = ops.find("conv")
    assert conv is not None
    arguments = {
        p.name: default_of(p, span, frame, conv.name) if p.name in OF_SHORTCUTS else p.default for p in conv.params
    }
    arguments |= {"out": inside.shape.channels, "stride": stride, "act": Symbol("none")}
    changes = frame.when(expr.negate(same)).but(path=join(frame.path, "shortcut"))
    made = node_for(conv, arguments, (flow,), changes, span, {})
    if same is False:
        return made
    # in width and scale both are as the body is, which need not be proven again
    shape = replace(
        choose_shape(same, flow.shape, made.shape), channels=inside.shape.channels, scale=inside.shape.scale
    )
    edges = (Edge(flow.node, same), Edge(made.node, expr.negate(same)))
    return frame.builder.node(
        join(frame.path, "shortcut.select"), "select", "select", {}, edges, shape, frame.present, span
    )


FORM = bound.Form(
    "residual",
    (bound.Parameter("operator", "step", "what is applied, in place of text in braces"),),
    run,
    "adds its input to what its body makes of it",
    "Where the body changes width or scale, the shortcut is a strided 1x1 convolution with norm, and the identity "
    "for those choices that change neither. Its steps go by the names that they would have without it. A body that "
    "ends in `none` leaves the input as it is.",
    Example("conv(16, kernel: 3)\nresidual { conv(16, kernel: oneof(3, 5)), conv(16, act: none) }\nrelu()", 2),
    body=True,
    joins=True,
)
