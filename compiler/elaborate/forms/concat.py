"""`concat(a, b)`: tensors joined along the channels."""

from __future__ import annotations

from dataclasses import replace

from nasdsl.compiler import bound, ops
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import at_scale, bundle, finest, guarded, outcomes
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import alike, merge, where_there
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.merge import FINEST
from nasdsl.compiler.ops.operator import ShapeProblem
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import Symbol


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    operator = ops.find("concat")
    assert operator is not None
    items = value.arguments.get("*", ())
    if items and isinstance(flow, Tensor) and flow.present is not True and not v.starts_anew(items):
        return where_there(flow, frame, lambda flow, frame: run(value, flow, frame, name, span))
    if "*" in value.arguments:
        made = outcomes(value.arguments["*"], flow, frame, name, span)
        tensors = [(tensor, when) for outcome, when, _ in made for tensor in bundle(outcome)]
    elif "from" in value.arguments:
        tensors = [(t, when) for t, when in guarded(value.arguments["from"], span)]
    else:
        tensors = [(tensor, True) for tensor in bundle(flow)]
    if not tensors:
        return None
    if any(t.lost for t, _ in tensors):
        return v.LOST
    alike("concatenated", [(t, when, t.span or span) for t, when in tensors], frame)
    if "*" in value.arguments or "from" in value.arguments or len(tensors) == 1:
        default = tensors[0][0].shape.scale
    else:  # the finest that is there
        default = finest(tensors)
    scale = value.arguments.get("scale", default)
    if scale == FINEST:
        scale = finest(tensors)
    attrs = {"scale": scale, "mode": value.arguments.get("mode", Symbol("bilinear"))}
    if tensors[0][0].shape.height is not None:
        at_scale(tensors, scale, value.spans.get("scale", span), frame)
    try:
        shape = operator.shape([tensor.shape for tensor, _ in tensors], attrs)
    except ShapeProblem as problem:
        raise error("bad-shape", f"`concat`: {problem.message}", span, help=problem.help) from None
    if shape.height is not None:
        shape = _as_large_as_the_first(tensors, scale, shape)
    channels = expr.add(*[expr.choose(expr.both(when, t.present), t.shape.channels, 0) for t, when in tensors])
    return merge("concat", attrs, tensors, shape.with_channels(channels), frame, name, span)


def _as_large_as_the_first(tensors: list[tuple[Tensor, Value]], scale: Value, shape: Shape) -> Shape:
    """The shape with the size of the first tensor of the scale that is there."""
    cases = [(expr.both(when, t.present, expr.equal(t.shape.scale, scale)), t) for t, when in tensors]
    cases = [(there, t) for there, t in cases if there is not False]
    if cases[0][0] is True:
        return shape
    height, width = cases[-1][1].shape.height, cases[-1][1].shape.width
    for there, tensor in reversed(cases[:-1]):
        height = expr.choose(there, tensor.shape.height, height)
        width = expr.choose(there, tensor.shape.width, width)
    return replace(shape, height=height, width=width)


FORM = bound.Form(
    "concat",
    (
        bound.Parameter(
            "scale",
            "number",
            "to which all are resized; left out, that of the first argument, or of the finest branch that comes in",
            ("finest",),
        ),
        bound.Parameter("from", doc="a list of tensors, in place of arguments without a name"),
        bound.Parameter("mode", doc="of resizing: `bilinear` (the default) or `nearest`"),
    ),
    run,
    "joins tensors along the channels",
    "Operators are each given what comes in; a list stands for its items. Without any it joins the branches that "
    "come in. What is not there adds no channels.",
    Example(
        """
        conv(16, kernel: 3)
        concat(conv(8, kernel: 1), conv(8, kernel: 3), oneof(max_pool(3), avg_pool(3), none))
        classify(10)
    """,
        3,
    ),
    rest="step",
)
