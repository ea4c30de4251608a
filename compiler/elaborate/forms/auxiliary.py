"""`auxiliary(weight: w) { ... }`: its body is run beside the network, in training alone, for a loss of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.arguments import checked, default_of
from nasdsl.compiler.elaborate.frame import Builder, Frame
from nasdsl.compiler.elaborate.merging import where_there
from nasdsl.compiler.elaborate.operations import constant
from nasdsl.compiler.elaborate.steps import apply, run_braces
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Edge
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if isinstance(flow, Branches):
        raise error(
            "several-branches",
            "`auxiliary` takes one tensor, and several branches come in",
            span,
            help="use it inside `parallel { ... }`, or in front of what makes branches",
        )
    if flow is None:
        return None
    return where_there(flow, frame, partial(_with_side, value, span))


def _with_side(value: v.Invocation, span: Span, flow: Flow, frame: Frame) -> Flow:
    builder = frame.builder
    if value.block is not None and "operator" in value.arguments:
        raise error("bad-argument", "`auxiliary` takes an operator or a body, not both", value.spans["operator"])
    weight = _weight(value, frame, span)
    start, labelled = len(builder.nodes), len(builder.labelled)
    uses = {tensor: len(conditions) for tensor, conditions in builder.uses.items()}
    fields = {key: list(made) for key, made in builder.fields.items()}, dict(builder.running)
    if value.block is None:
        operator = value.arguments["operator"]
        side = apply(operator, flow, frame, operator.name if isinstance(operator, v.Invocation) else "", span)
    else:
        side = run_braces(value, flow, frame)
    own = list(builder.nodes)[start:]
    builder.nodes.update({one: replace(builder.nodes[one], aside=True) for one in own})
    _forget(builder, uses)
    builder.fields, builder.running = fields  # nor is `previous` what a side has made
    while len(builder.labelled) > labelled:  # nor `earlier`, nor `unused`
        builder.labelled.pop().tensors.pop()
    if not isinstance(flow, Tensor) or v.is_lost(flow):
        return flow
    if v.is_lost(side):
        return v.LOST
    if not isinstance(side, Tensor):
        what = "nothing" if side is None else f"{len(side.tensors)} branches"
        help = "end it with a head such as `classify(classes)`"
        raise error("bad-output", f"the body of `auxiliary` ends in {what}", span, help=help)
    if side.node not in own:
        raise error("bad-output", "the body of `auxiliary` makes nothing", span, help="end it with a head")
    if side.present is not True:
        builder.require(side.present, frame, f"something reaches the end of {frame.path}", "live", span)
    edges = (Edge(flow.node), Edge(side.node))
    attrs = {"weight": weight}
    made = builder.node(frame.path, "operator", AUXILIARY.name, attrs, edges, flow.shape, frame.present, span)
    _forget(builder, uses)
    builder.passed[made.node] = builder.passed.get(flow.node, flow.node)  # who reads one has read the other
    return replace(made, present=True)


def _weight(value: v.Invocation, frame: Frame, span: Span) -> Any:
    (param,) = AUXILIARY.params
    if param.name not in value.arguments:
        weight = default_of(param, span, frame, AUXILIARY.name)
    else:
        weight = checked(value.arguments[param.name], param, value.spans[param.name], frame, AUXILIARY.name)
    return constant(weight, value.spans.get(param.name, span), "the weight of `auxiliary`")


def _forget(builder: Builder, uses: Mapping[str, int]) -> None:
    """What only a side has read is `unused` for the network."""
    for tensor, conditions in builder.uses.items():
        del conditions[uses.get(tensor, 0) :]


FORM = bound.Form(
    AUXILIARY.name,
    (
        bound.Parameter("operator", "step", "what is applied, in place of text in braces"),
        bound.Parameter(
            "weight",
            "number",
            "the weight of its loss against that of the network; it must be constant",
            missing="`auxiliary` needs the weight of its loss",
            usage="write `auxiliary(weight: 0.4) { ... }`",
        ),
    ),
    run,
    "lets through what comes in, and in training gives what its body makes of it a loss of its own",
    "The body ends in a head. Evaluation, export and costs are without it; its labels are not `earlier` to what "
    "follows.",
    Example(
        """
        conv(16, kernel: 3, stride: 2)
        auxiliary(weight: 0.4) { global_pool() -> classify(10) }
        conv(oneof(16, 32), kernel: 3)
        classify(10)
    """,
        2,
    ),
    body=True,
    own_step=True,
)
