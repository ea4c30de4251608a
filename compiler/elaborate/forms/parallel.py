"""`parallel { ... }`: a body is applied to every branch."""

from __future__ import annotations

from dataclasses import replace

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import branch_name, bundle, bundled
from nasdsl.compiler.elaborate.frame import Broken, Frame, Scope
from nasdsl.compiler.elaborate.merging import only_where
from nasdsl.compiler.elaborate.steps import apply, run_body
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.plain import Symbol


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    out: list[Tensor] = []
    shared = "share" in value.arguments
    if shared and value.arguments["share"] != Symbol("weights"):
        raise error("bad-argument", "branches share weights or nothing", value.spans["share"], help="write `weights`")
    for number, tensor in enumerate(bundle(flow)):
        step = f"[{branch_name(tensor.shape.scale, tensor.label, number)}]"
        there = tensor.present  # what is made of a branch is there where the branch is
        tensor = tensor if there is True else replace(tensor, present=True)
        inner = frame.when(there).under(step).but(incoming=tensor)
        if shared:
            inner = inner.but(cuts=(*frame.cuts, (len(frame.path), len(inner.path))))
        if value.block is None:
            result = apply(value.arguments["operator"], tensor, inner, "", span)
        else:
            assert value.frame is not None
            scope = Scope(value.frame.scope)
            scope.bind("width", Broken if tensor.lost else tensor.shape.channels)
            scope.bind("scale", Broken if tensor.lost else tensor.shape.scale)
            inner = value.frame.but(
                scope=scope,
                path=inner.path,
                decisions=inner.decisions,
                uses=inner.uses,
                present=inner.present,
                incoming=tensor,
                cuts=inner.cuts,
            )
            result = run_body(value.block, tensor, inner)
        out.extend(bundle(result if there is True else only_where(result, there)))
    return bundled(out)


FORM = bound.Form(
    "parallel",
    (
        bound.Parameter("operator", "step", "what is applied, in place of text in braces"),
        bound.Parameter("share", doc="`weights`: one set of weights for all branches"),
    ),
    run,
    "applies a body to every branch",
    "In the braces `width` and `scale` are those of the branch, and so are `in` and `at`. What stands in braces is "
    "decided anew for each branch; an operator in parentheses is decided once, and each branch has its own copy of "
    "the layers. What comes out is again a set of branches. A tensor that comes in is a set of one.",
    Example(
        """
        branches(conv(8), conv(16, stride: 2))
        parallel { conv(width, kernel: oneof(3, 5)) }
        concat(scale: finest)
    """,
        4,
    ),
    body=True,
    names=("width", "scale"),
    own_step=True,
)
