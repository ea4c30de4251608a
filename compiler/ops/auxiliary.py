"""The operator behind `auxiliary { ... }`: where a side of a network leaves it that is used in training alone."""

from __future__ import annotations

from nasdsl.compiler.ops.common import LAYERS, same
from nasdsl.compiler.ops.operator import Cost, Identities, Operator, Param, by_channel

AUXILIARY = Operator(
    name="auxiliary",
    params=(
        Param("weight", "number", above=0, doc="what the loss of its output is multiplied by, beside the main one"),
    ),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(),
    module=f"{LAYERS}.auxiliary:Auxiliary",
    arguments=lambda inputs, output, attrs: {"weight": float(attrs["weight"])},
    inputs=2,
    identities=Identities(passes=lambda inputs, output, attrs: True),
    zeros=by_channel,
    doc="lets through what comes in; what `{ ... }` makes of it has a loss of its own, in training (Inception paper)",
)

OPERATORS = (AUXILIARY,)
