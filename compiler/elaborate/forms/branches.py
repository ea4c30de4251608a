"""`branches(a, b)`: tensors and sets of branches as one set."""

from __future__ import annotations

from nasdsl.compiler import bound
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle, bundled, outcomes
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import only_where
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Tensors, sets of branches and what operators make of what comes in, as one set; without any, what comes in."""
    if "*" not in value.arguments:
        return flow
    out: list[Tensor] = []
    for made, there, _ in outcomes(value.arguments["*"], flow, frame, name, span):
        out.extend(bundle(made if there is True else only_where(made, there)))
    return bundled(out)


FORM = bound.Form(
    "branches",
    (),
    run,
    "a set of branches made of tensors",
    "Operators are each given what comes in; tensors are taken as they are; a list or a set of branches stands for "
    "its items. A branch goes by its scale in paths, or by its label. Without arguments it hands on what comes in. "
    "A set is a list, too: `levels[0]`, `for level in levels { ... }`.",
    Example(
        """
        c2: conv(16, kernel: 3, stride: 4)
        c3: conv(oneof(16, 32), kernel: 3, stride: 2)
        branches(c2, c3)
        concat(scale: 1/4)
    """,
        2,
    ),
    rest="step",
)
