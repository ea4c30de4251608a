"""What the operators of generated programs make of a tensor and what they cost: plain numbers, in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any


class Wrong(Exception):
    """This architecture has no meaning: a division by zero, shapes that disagree, a value of the wrong kind."""


@dataclass(frozen=True)
class Word:
    """A bare word that is no name."""

    text: str


@dataclass(frozen=True)
class Units:
    """Which of `n` search units are kept."""

    n: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Map:
    """A tensor of one image; a vector has neither height nor width. `number` tells it from others, `label` is what a
    step calls it.

    `gone` is what an operator without a unit left would have made: a shape that no tensor has.
    """

    channels: int
    height: int | None
    width: int | None
    scale: Fraction
    number: int = 0
    gone: bool = False
    label: str = field(default="", compare=False)

    @property
    def pixels(self) -> int:
        return 1 if self.height is None or self.width is None else self.height * self.width

    @property
    def size(self) -> tuple[int, int | None, int | None]:
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class Layer:
    """One operator of an architecture, as it is used: its arguments, what it reads and what it gives. One that is
    `aside` stands in the braces of an `auxiliary`, and so costs nothing."""

    op: str
    arguments: tuple[tuple[str, Any], ...]
    reads: tuple[int, int | None, int | None]
    gives: tuple[int, int | None, int | None]
    macs: int
    params: int
    aside: bool = False


PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "conv": {
        "out": None,
        "kernel": 1,
        "stride": 1,
        "groups": 1,
        "norm": Word("batch"),
        "norm_groups": 32,
        "standardise": False,
        "act": Word("relu"),
        "bias": None,
    },
    "depthwise": {
        "kernel": 3,
        "stride": 1,
        "norm": Word("batch"),
        "norm_groups": 32,
        "standardise": False,
        "act": Word("relu"),
        "bias": None,
    },
    "skip": {"out": None, "stride": 1},
    "se": {"ratio": Fraction(1, 4)},
    "norm": {"norm": Word("batch"), "norm_groups": 32},
    "mixconv": {"out": None, "stride": 1, "hidden": None},
    "max_pool": {"kernel": 3, "stride": 1},
    "avg_pool": {"kernel": 3, "stride": 1},
    "resize": {"to": None},
    "upsample": {"to": None},
    "global_pool": {},
    "identity": {},
    "zero": {"stride": 1},
    "relu": {},
    "linear": {"out": None, "bias": True},
    "classify": {"classes": None},
}
"""The operators, each with its parameters in order; None for those that have no value of their own."""

LARGEST_WIDTH = 1 << 24
LARGEST_KERNEL = 1 << 12


def applied(op: str, given: Mapping[str, Any], x: Map) -> tuple[Map, Layer]:
    """What an operator makes of a tensor.

    The arguments are checked before, by `check`.

    Raises:
        Wrong: it can't.
    """
    values = {**PARAMETERS[op], **given}
    y, macs, params = _RULES[op](x, values)
    plain = tuple((name, value) for name, value in values.items() if not isinstance(value, dict))
    return y, Layer(op, plain, x.size, y.size, macs, params)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check(op: str, values: Mapping[str, Any]) -> None:
    """Whether the arguments of a call are of their parameters' kinds, wherever it is used.

    Raises:
        Wrong: one is not.
    """
    for name, value in values.items():
        what = f"`{name}` of `{op}` is {value!r}"
        if name in ("out", "stride", "groups", "norm_groups", "classes") or (name == "kernel" and op.endswith("_pool")):
            if not is_whole(value) or not 1 <= value <= LARGEST_WIDTH:
                raise Wrong(what)
        elif name == "kernel":
            if not is_whole(value) or not 1 <= value < LARGEST_KERNEL:
                raise Wrong(what)
        elif name == "bias":
            if not isinstance(value, bool) and not (value is None and op != "linear"):
                raise Wrong(what)
        elif name == "standardise":
            if not isinstance(value, bool):
                raise Wrong(what)
        elif name == "norm":
            if value not in map(Word, ("batch", "group", "frozen", "none")):
                raise Wrong(what)
        elif name == "act":
            if value not in (Word("relu"), Word("none"), Word("h_swish")):
                raise Wrong(what)
        elif name == "ratio":
            if isinstance(value, bool) or not isinstance(value, int | Fraction) or not 0 <= value <= 64:
                raise Wrong(what)
        elif name == "to":
            if isinstance(value, bool) or not isinstance(value, int | Fraction) or value <= 0:
                raise Wrong(what)
        elif name == "hidden":
            for kernel, width in value.items():
                if not is_whole(kernel) or kernel < 1 or kernel % 2 == 0:
                    raise Wrong(what)
                if not isinstance(width, Units) and not (is_whole(width) and 0 <= width <= LARGEST_WIDTH):
                    raise Wrong(what)


def _a_map(x: Map, op: str) -> None:
    if x.height is None:
        raise Wrong(f"{op} of a vector")


def _strided(x: Map, channels: int, stride: int) -> Map:
    if x.height is None or x.width is None:
        return replace(x, channels=channels)
    return Map(channels, -(-x.height // stride), -(-x.width // stride), x.scale / stride)


def _conv(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    return _convolved(x, values["out"], values["groups"], values)


def _depthwise(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    return _convolved(x, x.channels, x.channels, values)


def _convolved(x: Map, out: int, groups: int, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    if x.channels % groups or out % groups:
        raise Wrong(f"{groups} groups of {x.channels} to {out} channels")
    y = _strided(x, out, values["stride"])
    weights = values["kernel"] ** 2 * (x.channels // groups) * out
    if values["standardise"] and weights == out:
        raise Wrong("standardised filters of one weight")
    biased = values["norm"] == Word("none") if values["bias"] is None else values["bias"]
    return y, weights * y.pixels, weights + _learned(y, values) + (out if biased else 0)


def _learned(x: Map, values: Mapping[str, Any]) -> int:
    """How many numbers a norm of a tensor learns."""
    if values["norm"] == Word("group"):
        if x.channels % values["norm_groups"]:
            raise Wrong(f"{values['norm_groups']} groups of {x.channels} channels in a norm")
        if x.channels // values["norm_groups"] * x.pixels == 1:
            raise Wrong("a group of one value in a norm")
    return 2 * x.channels if values["norm"] in (Word("batch"), Word("group")) else 0


def _skip(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    out = values["out"]
    y = _strided(x, out, values["stride"])
    if x.channels == out and (values["stride"] == 1 or x.height is None):
        return y, 0, 0
    if x.height is None:
        raise Wrong("a skip of a vector to another width")
    weights = x.channels // math.gcd(x.channels, out) * out
    return y, weights * y.pixels, weights


def _se(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    _a_map(x, "se")
    hidden = max(1, math.floor(x.channels * values["ratio"] + Fraction(1, 2)))
    return x, 2 * x.channels * hidden, 2 * x.channels * hidden + hidden + x.channels


def _norm(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    return x, 0, _learned(x, values)


def _mixconv(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    _a_map(x, "mixconv")
    out = values["out"]
    y = _strided(x, out, values["stride"])
    counts = {k: len(w.kept) if isinstance(w, Units) else w for k, w in values["hidden"].items()}
    total = sum(counts.values())
    if not total:
        return replace(y, gone=True), 0, 0
    expand = x.channels * total
    depthwise = sum(kernel**2 * n for kernel, n in counts.items())
    project = total * out
    macs = expand * x.pixels + (depthwise + project) * y.pixels
    return y, macs, expand + depthwise + project + 2 * total + 2 * total + 2 * out


def _pool(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    _a_map(x, "a pool")
    return _strided(x, x.channels, values["stride"]), 0, 0


def _resize(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    if x.height is None or x.width is None:
        raise Wrong("resize of a vector")
    to = Fraction(values["to"])
    factor = to if to > 1 else to / x.scale
    height, width = math.ceil(x.height * factor), math.ceil(x.width * factor)
    return Map(x.channels, height, width, x.scale * factor), 0, 0


def _upsample(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    to = Fraction(values["to"])
    if to <= 1 and to < x.scale:
        raise Wrong("upsample to a coarser scale")
    return _resize(x, values)


def _global_pool(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    _a_map(x, "global_pool")
    return Map(x.channels, None, None, x.scale), 0, 0


def _same(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    return x, 0, 0


def _zero(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    return _strided(x, x.channels, values["stride"]), 0, 0


def _linear(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    if x.height is not None:
        raise Wrong("linear of a map")
    weights = x.channels * values["out"]
    return replace(x, channels=values["out"]), weights, weights + (values["out"] if values["bias"] else 0)


def _classify(x: Map, values: Mapping[str, Any]) -> tuple[Map, int, int]:
    weights = x.channels * values["classes"]
    return Map(values["classes"], None, None, x.scale), weights, weights + values["classes"]


_RULES = {
    "conv": _conv,
    "depthwise": _depthwise,
    "skip": _skip,
    "se": _se,
    "norm": _norm,
    "mixconv": _mixconv,
    "max_pool": _pool,
    "avg_pool": _pool,
    "resize": _resize,
    "upsample": _upsample,
    "global_pool": _global_pool,
    "identity": _same,
    "zero": _zero,
    "relu": _same,
    "linear": _linear,
    "classify": _classify,
}
