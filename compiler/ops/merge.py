"""Operators that read several tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, is_plain
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Cost, Operator, Param, ShapeProblem, by_channel
from nasdsl.compiler.ops.resample import MODES
from nasdsl.compiler.values.expr import Value, add, choose, either, equal
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Expr, apply

FINEST = Symbol("finest")


def _check_kinds(inputs: Sequence[Shape], name: str) -> bool:
    """Whether the inputs are vectors; a mixture is an error."""
    if not inputs:
        raise ShapeProblem(f"{name} has no input")
    vectors = [x.height is None for x in inputs]
    if any(vectors) and not all(vectors):
        raise ShapeProblem(f"{name} reads feature maps or vectors, not both")
    return vectors[0]


def _adding(name: str, doc: str) -> Operator:
    def shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
        _check_kinds(inputs, name)
        first = inputs[0]
        for number, x in enumerate(inputs[1:], 2):
            if is_plain(first.channels, x.channels) and first.channels != x.channels:
                there = f"input 1 has {first.channels} channels and input {number} {x.channels}"
                raise ShapeProblem(f"{name} needs equal widths, but {there}")
        return first

    def must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
        for x in inputs[1:]:
            yield equal(inputs[0].channels, x.channels), ShapeProblem(f"{name} needs equal widths, whatever is chosen")

    return Operator(
        name=name,
        params=(),
        shape=shape,
        must=must,
        cost=lambda inputs, output, attrs: Cost(),
        module=f"{LAYERS}.merge:{name.capitalize()}",
        arguments=lambda inputs, output, attrs: {},
        inputs=-1,
        identities=KEEPS_ZERO._replace(commutes=True),
        zeros=by_channel,
        doc=f"{doc}; later ones are resized to the first where they differ in size",
    )


SUM = _adding("sum", "adds its inputs")
MEAN = _adding("mean", "the mean of its inputs")


def _target(inputs: Sequence[Shape], attrs: Attrs) -> Value:
    wanted = attrs["scale"]
    finest = apply("max", *[x.scale for x in inputs]) if len(inputs) > 1 else inputs[0].scale
    return choose(equal(wanted, FINEST), finest, wanted) if isinstance(wanted, Symbol | Expr) else wanted


def _concat_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    channels = add(*[x.channels for x in inputs])
    if _check_kinds(inputs, "concat"):
        return inputs[0].with_channels(channels)
    target = _target(inputs, attrs)
    if is_plain(target, *[x.scale for x in inputs]) and all(x.scale != target for x in inputs):
        there = ", ".join(str(x.scale) for x in inputs)
        raise ShapeProblem(f"no input has scale {target}; there is {there}", "scale")
    height, width = inputs[-1].height, inputs[-1].width
    for x in reversed(inputs[:-1]):
        here = equal(x.scale, target)
        height, width = choose(here, x.height, height), choose(here, x.width, width)
    if is_plain(target):
        for x in inputs:
            if is_plain(x.scale) and x.scale == target:
                return Shape(channels, x.height, x.width, target, x.items)
    return Shape(channels, height, width, target, inputs[0].items)


def _concat_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    if inputs[0].height is not None:
        target = _target(inputs, attrs)
        found = either(*[equal(x.scale, target) for x in inputs])
        yield found, ShapeProblem("concat needs an input of the scale that it joins at, whatever is chosen", "scale")


def _concat_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    scales = [x.scale for x in inputs]
    target = 0 if output.height is None else scales.index(_target(inputs, attrs))
    return {"target": target, "mode": attrs["mode"].word}


CONCAT = Operator(
    name="concat",
    params=(
        Param(
            "scale",
            "scale",
            FINEST,
            ("finest",),
            doc="the scale that all inputs are brought to: that of one of them, or finest",
        ),
        Param("mode", "symbol", Symbol("bilinear"), MODES, doc="how values between pixels are made"),
    ),
    shape=_concat_shape,
    must=_concat_must,
    cost=lambda inputs, output, attrs: Cost(),
    module=f"{LAYERS}.merge:Concat",
    arguments=_concat_arguments,
    inputs=-1,
    identities=KEEPS_ZERO,
    doc="brings its inputs to one scale and joins their channels",
)

OPERATORS = (SUM, MEAN, CONCAT)
