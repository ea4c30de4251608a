"""`pick(1/32)`: one branch is taken out."""

from __future__ import annotations

from dataclasses import replace

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import at_scale, bundle, finest
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import select
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.ops.merge import FINEST
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    scale = value.arguments["scale"]
    tensors = bundle(flow)
    if not tensors or any(tensor.lost for tensor in tensors):
        return v.LOST if tensors else None
    if scale == FINEST:
        scale = finest([(tensor, True) for tensor in tensors])
    cases, anything = at_scale([(tensor, True) for tensor in tensors], scale, value.spans.get("scale", span), frame)
    if len(cases) == 1 and cases[0][0].shape.scale == scale:
        return replace(cases[0][0], present=anything)
    if len(cases) > 1 and expr.both(*[there for _, there in cases[:2]]) is True:
        raise error("several-branches", f"there are two branches at scale {v.show(scale)}", span)
    picked: list[tuple[Value, Flow]] = []
    for i, (tensor, there) in enumerate(cases):
        earlier = expr.either(*[other for _, other in cases[:i]])
        picked.append((expr.both(there, expr.negate(earlier)), tensor))
    chosen = select(picked, frame.under(name), span)
    assert isinstance(chosen, Tensor)
    return replace(chosen, shape=replace(chosen.shape, scale=scale), present=anything)


FORM = bound.Form(
    "pick",
    (
        bound.Parameter(
            "scale",
            "number",
            "of the branch; `finest` is the largest there is",
            ("finest",),
            "`pick` needs a scale",
            "write `pick(1/32)`",
        ),
    ),
    run,
    "takes one branch out",
    "There has to be a branch at that scale, and one alone, whatever is chosen. The scale may depend on a decision.",
    Example("branches(conv(8), conv(16, stride: 2))\npick(oneof(1/1, 1/2))\nclassify(10)", 2),
)
