"""`branches(a, b)`: tensors and sets of branches as one set."""

from __future__ import annotations

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle, bundled
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Labelled tensors and sets of branches as one set; without any, what comes in."""
    if "*" not in value.arguments:
        return flow
    out: list[Tensor] = []
    for item in value.arguments["*"]:
        for part in item if isinstance(item, tuple) else (item,):
            if part is not None and not isinstance(part, Tensor | Branches):
                raise error("not-a-tensor", f"`branches` takes labelled tensors, and this is {v.describe(part)}", span)
            out.extend(bundle(part))
    return bundled(out)


FORM = bound.Form("branches", (), run, "a set of branches made of labelled tensors", rest="step")
