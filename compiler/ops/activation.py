"""Activations as operators of their own."""

from __future__ import annotations

from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import ACTIVATIONS, ALIASES, LAYERS, NOT_AT_REST, same
from nasdsl.compiler.ops.operator import KEEPS_ZERO, NONE_KNOWN, Attrs, Cost, Operator

FORMULAS = {
    "relu": "max(x, 0)",
    "relu6": "max(x, 0), at most 6",
    "h_swish": "x * h_sigmoid(x)",
    "swish": "x * sigmoid(x)",
    "gelu": "x times the normal distribution at x",
    "sigmoid": "1 / (1 + exp(-x))",
    "h_sigmoid": "x / 6 + 1/2, held between 0 and 1",
    "leaky_relu": "x, or x / 100 where it is negative",
    "tanh": "hyperbolic tangent",
}


FORMULAS |= {alias: f"`{name}` by another name, {FORMULAS[name]}" for alias, name in ALIASES.items()}


def _arguments(name: str, inputs: tuple[Shape, ...], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {"name": ALIASES.get(name, name)}


def _activation(name: str) -> Operator:
    return Operator(
        name=name,
        params=(),
        shape=same,
        cost=lambda inputs, output, attrs: Cost(),
        module=f"{LAYERS}.activation:Activation",
        arguments=partial(_arguments, name),
        identities=NONE_KNOWN if name in NOT_AT_REST else KEEPS_ZERO,
        zeros=lambda larger, smaller: name not in NOT_AT_REST,
        doc=f"activation: {FORMULAS[name]}",
        example=Example(f"conv(16, act: none)\noneof({name}(), identity())", 2),
    )


OPERATORS = tuple(_activation(name) for name in (*ACTIVATIONS, *ALIASES))
