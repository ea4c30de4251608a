"""Operators that read several tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, is_plain, positions, trimmed, word
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Cost, Index, Operator, Param, ShapeProblem, by_channel
from nasdsl.compiler.ops.resample import MODES
from nasdsl.compiler.values.expr import Value, add, choose, either, equal, less
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

# --- products and weighted sums -------------------------------------------------------------------------------------


def _size_of_first(inputs: Sequence[Shape], channels: Value) -> Shape:
    """The size of the first input that is there: one that is not has no pixels."""
    out = inputs[-1]
    for x in reversed(inputs[:-1]):
        if x.height is not None and out.height is not None:
            here = less(0, x.height)
            out = Shape(x.channels, choose(here, x.height, out.height), choose(here, x.width, out.width), x.scale)
    first = inputs[0]
    return Shape(channels, None if first.height is None else out.height, out.width, first.scale, first.items)


def _merge_conditions(inputs: Sequence[Shape], name: str) -> Iterator[tuple[Value, ShapeProblem]]:
    """That later maps have the scale of the first input, and all are of as many items."""
    first = inputs[0]
    for number, x in enumerate(inputs[1:], 2):
        if x.height is not None:
            there = ", whatever is chosen"
            if is_plain(first.scale, x.scale):
                there = f", but input 1 has {first.scale} and input {number} {x.scale}"
            help = "`resize(to: 1/8)` brings a map to another scale"
            yield equal(first.scale, x.scale), ShapeProblem(f"{name} needs maps of one scale{there}", help=help)
        problem = ShapeProblem(f"{name} needs inputs of which an image gives as many")
        yield equal(first.items, x.items), problem


def _product_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if not inputs:
        raise ShapeProblem("product has no input")
    first = inputs[0]
    if first.height is None and any(x.height is not None for x in inputs):
        raise ShapeProblem(
            "product begins with a vector, and a map comes later",
            help="put the map first: a vector is then a factor for each of its channels",
        )
    for number, x in enumerate(inputs[1:], 2):
        if is_plain(first.channels, x.channels) and x.channels not in (1, first.channels):
            there = f"input 1 has {first.channels} channels and input {number} {x.channels}"
            raise ShapeProblem(f"product needs equal widths, or one channel for all, but {there}")
    return _size_of_first([x for x in inputs if (x.height is None) == (first.height is None)], first.channels)


def _product_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    first = inputs[0]
    for x in inputs[1:]:
        fits = either(equal(first.channels, x.channels), equal(x.channels, 1))
        yield fits, ShapeProblem("product needs equal widths, or one channel for all, whatever is chosen")
    if first.height is not None and any(x.height is None for x in inputs):
        yield less(0, first.height), ShapeProblem("a vector cannot be a factor of a map that may not be there")
    yield from _merge_conditions(inputs, "product")


PRODUCT = Operator(
    name="product",
    example=Example("conv(16)\nbranches(conv(16, kernel: oneof(3, 5)), conv(16, act: sigmoid))\nproduct()", 2),
    params=(),
    shape=_product_shape,
    must=_product_must,
    cost=lambda inputs, output, attrs: Cost(),
    module=f"{LAYERS}.merge:Product",
    arguments=lambda inputs, output, attrs: {},
    inputs=-1,
    identities=KEEPS_ZERO,
    zeros=by_channel,
    doc="multiplies its inputs; later ones are resized to the first, vectors and single channels spread over it",
)


def _weighted_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _check_kinds(inputs, "weighted_sum")
    first = inputs[0]
    for number, x in enumerate(inputs[1:], 2):
        if is_plain(first.channels, x.channels) and first.channels != x.channels:
            there = f"input 1 has {first.channels} channels and input {number} {x.channels}"
            raise ShapeProblem(f"weighted_sum needs equal widths, but {there}")
    return _size_of_first(inputs, first.channels)


def _weighted_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    for x in inputs[1:]:
        problem = ShapeProblem("weighted_sum needs equal widths, whatever is chosen")
        yield equal(inputs[0].channels, x.channels), problem
    yield from _merge_conditions(inputs, "weighted_sum")


def _weighted_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    there = attrs.get("there", (True,) * len(inputs))
    return Cost(0, add(*[choose(present, 1, 0) for present in there]))


def _weighted_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    places = full.get("places", tuple(range(len(inputs))))
    kept = [places.index(place) for place in small.get("places", range(len(small_inputs)))]
    return trimmed({"factors": (positions(kept, len(inputs)),)})


WEIGHTED_SUM = Operator(
    name="weighted_sum",
    example=Example("conv(16)\nbranches(conv(16, kernel: oneof(3, 5)), max_pool(3))\nweighted_sum()", 2),
    params=(
        Param(
            "weights",
            "symbol",
            Symbol("fast"),
            ("fast", "softmax", "free"),
            doc="how the learned factors are normalised: fast divides relu(w) by their sum, softmax exp(w), free not",
        ),
        Param("eps", "number", Fraction(1, 10_000), doc="added to the sum of the factors with fast", low=0, high=1),
        Param("init", "number", 1, doc="initial value of each factor"),
    ),
    shape=_weighted_shape,
    must=_weighted_must,
    cost=_weighted_cost,
    module=f"{LAYERS}.merge:WeightedSum",
    arguments=lambda inputs, output, attrs: {
        "inputs": len(inputs),
        "weights": word(attrs["weights"]),
        "eps": float(attrs["eps"]),
        "init": float(attrs["init"]),
    },
    shares=_weighted_shares,
    inputs=-1,
    by_input=True,
    identities=KEEPS_ZERO,
    zeros=by_channel,
    doc="adds its inputs with a learned factor each, normalised over those that are there; later ones are resized to "
    "the first where they differ in size",
)

OPERATORS = (SUM, MEAN, CONCAT, PRODUCT, WEIGHTED_SUM)
