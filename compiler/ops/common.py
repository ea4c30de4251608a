"""What the operators' rules share: parameters, shapes, indices into weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nasdsl.compiler.decision import Units, count_of, kept_of
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.operator import Attrs, Index, Made, Param, ShapeProblem
from nasdsl.compiler.values.expr import (
    Apply,
    Expr,
    Value,
    apply,
    ceil_divide,
    choose,
    divide,
    either,
    equal,
    is_whole,
    less,
    multiply,
    negate,
    options,
)
from nasdsl.compiler.values.plain import Symbol

NONE = Symbol("none")
GROUP = Symbol("group")
FROZEN = Symbol("frozen")
ACTIVATIONS = (
    "relu",
    "relu6",
    "h_swish",
    "swish",
    "gelu",
    "sigmoid",
    "h_sigmoid",
    "leaky_relu",
    "tanh",
)
ALIASES = {
    "relu_6": "relu6",
    "silu": "swish",
    "hard_swish": "h_swish",
    "hardswish": "h_swish",
    "hard_sigmoid": "h_sigmoid",
    "hardsigmoid": "h_sigmoid",
}
"""Other usual names of activations."""
LAYERS = "nasdsl.compiler.layers"

OUT = Param("out", "positive", doc="channels of the output")
STRIDE = Param("stride", "positive", 1, doc="the output has ceil(size / stride) pixels")
EPS = Param("eps", "number", 1e-5, doc="added to the variance in a norm", low=0, high=1)
MOMENTUM = Param(
    "momentum",
    "number",
    0.1,
    doc="share of the newest batch in the running statistics of batch norm",
    low=0,
    high=1,
)
NORM = Param(
    "norm",
    "symbol",
    Symbol("batch"),
    ("batch", "group", "frozen", "none"),
    doc="normalisation: by the batch, by groups of an image's channels, or by numbers that training leaves as they are",
)
NORM_GROUPS = Param("norm_groups", "positive", 32, doc="parts of the channels that group norm normalises by themselves")
SCALE_INIT = Param(
    "scale_init", "number", 1, doc="initial scale of the norm; 0 lets a residual block start as identity"
)


def act_param(default: str) -> Param:
    return Param("act", "symbol", Symbol(default), (*ACTIVATIONS, *ALIASES, "none"), doc="activation")


NOT_AT_REST = ("sigmoid", "h_sigmoid", "hard_sigmoid", "hardsigmoid")
"""Activations of which zero is not zero."""


def rests_at_zero(attrs: Attrs) -> Value:
    """Whether the activation of zero is zero."""
    return negate(either(*[equal(attrs["act"], Symbol(name)) for name in NOT_AT_REST]))


def alike_but(names: Collection[str], larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """Whether arguments of modules differ in nothing else, and zero stays zero in their activation."""
    same = all(value == smaller[name] for name, value in larger.items() if name not in names)
    return same and larger.get("act") not in NOT_AT_REST


# --- shapes -----------------------------------------------------------------------------------------------------------


def is_plain(*values: Value) -> bool:
    """Whether no value hangs on a decision, so that it can be compared at once."""
    return not any(isinstance(v, Expr | Units) for v in values)


def a_map(x: Shape, name: str) -> Shape:
    """The shape of a feature map.

    Raises:
        ShapeProblem: it is a vector.
    """
    if x.height is None:
        raise ShapeProblem(
            f"{name} reads a feature map, but here it gets a vector",
            help="put it before global_pool(), which takes the mean over all pixels",
        )
    return x


def strided(x: Shape, channels: Value, stride: Value) -> Shape:
    """The shape after a step of `stride` pixels. A vector is one pixel, and stays a vector."""
    if x.height is None:
        return x.with_channels(channels)
    height, width = ceil_divide(x.height, stride), ceil_divide(x.width, stride)
    return Shape(channels, height, width, divide(x.scale, stride), x.items)


def same(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    """The shape rule of an operator that keeps its input's shape."""
    return inputs[0]


def gcd(a: Value, b: Value) -> Value:
    return apply("gcd", a, b)


def divides(part: Value, whole: Value) -> Value:
    """Whether a positive number divides another: at once where that is plainly a product with it."""
    factors = whole.args if isinstance(whole, Apply) and whole.function == "mul" else (whole,)
    if part in factors:
        others = list(factors)
        others.remove(part)
        if all(map(is_whole, others)):
            return True
    return apply("divides", part, whole)


def rounded(value: Value) -> Value:
    """The nearest number from 1 up; halves go up."""
    return apply("max", 1, apply("round", value))


# --- plain arguments of modules ---------------------------------------------------------------------------------------


def word(value: Any) -> str:
    """The word of a symbol; an activation goes by the name that modules know."""
    if not isinstance(value, Symbol):
        return str(value)
    return ALIASES.get(value.word, value.word)


def words(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(word(v) for v in values)


def plain_width(width: Any) -> int:
    """A width in the full network: open units are all there."""
    return width.n if isinstance(width, Units) else int(count_of(width))


def norm_arguments(attrs: Attrs) -> dict[str, Any]:
    return {"eps": float(attrs["eps"]), "momentum": float(attrs["momentum"])}


def any_norm_arguments(width: int, attrs: Attrs) -> dict[str, Any]:
    """Of a module whose norm may be of any kind. A setting that holds the weights of several may have groups that do
    not divide its width; the weights are the same for any number of groups."""
    groups = {"norm_groups": math.gcd(attrs["norm_groups"], width)} if attrs["norm"] == GROUP else {}
    return {"norm": word(attrs["norm"]), **groups, "scale_init": float(attrs["scale_init"]), **norm_arguments(attrs)}


# --- norms of any kind ------------------------------------------------------------------------------------------------


def norm_params(width: Value, attrs: Attrs) -> Value:
    """Parameters of a norm of so many channels. What a frozen one holds is not learned, and so counts as none."""
    unlearned = either(equal(attrs["norm"], NONE), equal(attrs["norm"], FROZEN))
    return choose(unlearned, 0, multiply(2, width))


def norm_keeps_zero(attrs: Attrs, shift: bool) -> Value:
    """Whether a norm makes zeros of zeros. The numbers of a frozen one are of no batch, and shift zeros always."""
    return equal(attrs["norm"], NONE) if shift else negate(equal(attrs["norm"], FROZEN))


def norm_kinds(attrs: Attrs) -> list[str] | None:
    """The kinds of norm that a step may have, beside none; None where they are not known."""
    found = options(attrs["norm"])
    return None if found is None else sorted(word(kind) for kind in found if kind != NONE)


def norm_conditions(x: Shape, attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    """What has to hold of a norm of a tensor."""
    kinds = norm_kinds(attrs)
    if kinds is None or len(kinds) > 1:
        among = "" if kinds is None else f" between {' and '.join(kinds)}"
        help = "let `oneof` choose between whole operators; beside one kind of norm, `none` may be chosen"
        yield False, ShapeProblem(f"norm cannot be chosen{among}: the two learn different weights", "norm", help)
        return
    groups, width, other = attrs["norm_groups"], x.channels, negate(equal(attrs["norm"], GROUP))
    message = "the groups of the norm do not divide the channels for every choice"
    if is_plain(groups, width):
        message = f"the {groups} groups of the norm do not divide {width} channels"
    help = "`norm_groups` is a common divisor of the channels"
    yield either(other, divides(groups, width)), ShapeProblem(message, "norm_groups", help)
    message = "each group of the norm has one value alone, which it makes zero"
    several = either(less(groups, width), less(1, x.pixels))
    yield either(other, several), ShapeProblem(message, "norm_groups", "a vector needs fewer groups than channels")


# --- indices into weights ---------------------------------------------------------------------------------------------


def leading(full: int, small: int) -> Index:
    """The first `small` of `full` entries."""
    if small > full:
        raise ValueError(f"{small} of {full} entries")
    return None if small == full else slice(0, small)


def centre(full: int, small: int) -> Index:
    """The middle `small` of `full` entries: a small kernel inside a large one."""
    if small > full or (full - small) % 2:
        raise ValueError(f"the middle {small} of {full} entries")
    start = (full - small) // 2
    return None if small == full else slice(start, start + small)


def positions(positions: Sequence[int], full: int) -> Index:
    """Certain of `full` entries, in the cheapest form: all, a slice (a view), or indices (a copy)."""
    wanted = tuple(positions)
    if wanted == tuple(range(full)):
        return None
    if wanted and wanted == tuple(range(wanted[0], wanted[0] + len(wanted))):
        return slice(wanted[0], wanted[-1] + 1)
    return wanted


def kept_positions(full: Any, small: Any) -> list[int]:
    """Where the kept units of `small` stand among those of `full`; both count the same original units."""
    if isinstance(full, Units):
        full = full.n
    if isinstance(small, Units):
        small = small.n
    places = {unit: place for place, unit in enumerate(kept_of(full))}
    missing = [unit for unit in kept_of(small) if unit not in places]
    if missing:
        raise ValueError(f"unit {missing[0]} is not among the units kept before")
    return [places[unit] for unit in kept_of(small)]


def norm_shares(name: str, index: Index, kind: str = "batch") -> dict[str, tuple[Index, ...]]:
    """A norm's weights, and its statistics where it has any, all take the same entries."""
    statistics = () if kind == "group" else ("running_mean", "running_var")
    return {f"{name}.{part}": (index,) for part in ("weight", "bias", *statistics)}


def trimmed(shares: Mapping[str, tuple[Index, ...]]) -> dict[str, tuple[Index, ...]]:
    """Without the weights that are used whole."""
    return {n: index for n, index in shares.items() if isinstance(index, Made) or any(i is not None for i in index)}
