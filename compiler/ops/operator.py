"""What an operator is: parameters, shape rule, cost rule, sharing rule and module, in one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.values.expr import Value

Attrs = Mapping[str, Any]
REQUIRED: Any = object()
"""The default of a parameter that has none."""

Index = tuple[int, ...] | slice | None
"""Which entries of one axis of a weight a smaller setting uses: None for all, a slice (a view), or indices."""


class Made(tuple[Index, ...]):
    """Which entries of a weight are read where a smaller setting's are not these but made of them, by the method
    `made(name, part, to)` of the larger module; `to` says what it is asked for.
    """

    to: Any

    def __new__(cls, index: Iterable[Index], to: Any) -> Made:
        made = super().__new__(cls, index)
        made.to = to
        return made

    def __repr__(self) -> str:
        return f"Made({super().__repr__()}, {self.to!r})"


class Cost(NamedTuple):
    """Exact cost of one operator for one image: multiply-accumulates and parameters.

    Batch norm, activation, pooling and resizing count no MACs; attention's products do. This is what
    `torch.utils.flop_counter` counts, halved, with one exception. Local attention counts as its paper counts it,
    however it is computed: every window is full, k * k keys for each query, also where it reaches beyond the border.
    Torch sees there what products of matrices take: all pixels with all on a map hardly larger than a window, blocks
    with all that their windows reach, or none where shifted maps are summed up. (Scaled dot product attention counts
    its two products on every device; of torch's kernels the counter does not know the CPU's.)
    """

    macs: Value = 0
    params: Value = 0


@dataclass(frozen=True)
class Param:
    """One parameter of an operator.

    Attributes:
        type: what a value must be, in words of the language: `int`, `positive`, `odd`, `number`, `bool`, `symbol`,
            `width` (a number or
            `units`), `widths` (a record kernel size -> width), `scale`, `list`, `string`.
        default: REQUIRED where the file must give it.
        choices: for a symbol, the words that are allowed.
        doc: one line for `--help` and errors.
        low, high: of a number, the least and the greatest that is allowed.
        above: of a number, what it has to exceed.
    """

    name: str
    type: str
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    doc: str = ""
    low: Any = None
    high: Any = None
    above: Any = None


@dataclass(frozen=True)
class UnitGroup:
    """Search units of one operator that a shrinking search may remove.

    Attributes:
        units: the attribute (or `attribute[key]`) whose value is the `units` decision.
        scale: name of the module's parameter that holds the importance factors (BN scales).
        start: first entry of that parameter that belongs to this group.
        kind: what the unit is, for pictures and tables: `channel` or `token`.
        label: the kernel size of a channel group, else empty.
    """

    units: Any
    scale: str
    start: int
    kind: str
    label: str = ""


class ShapeProblem(NasdslError):
    """Raised by a shape rule: the message says what is wrong in the user's words; `param` names the argument at
    fault."""

    code = "bad-shape"

    def __init__(self, message: str, param: str = "", help: str = ""):
        super().__init__(message, help)
        self.param = param


def _no_sharing(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    return {}


def _no_units(attrs: Attrs) -> tuple[UnitGroup, ...]:
    return ()


def _as_they_are(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    return {}


def _always(attrs: Attrs) -> Value:
    return True


def _nothing(inputs: Sequence[Shape], attrs: Attrs) -> tuple[tuple[Value, ShapeProblem], ...]:
    return ()


def _differently(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    return False


def by_channel(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """The rule `zeros` of operators without weights that treat each channel by itself, and make zeros of zeros."""
    return larger == smaller


def _never(*rule: Any) -> Value:
    return False


class Identities(NamedTuple):
    """What is known of an operator's output without its weights, so that equal functions are seen to be equal.

    Attributes:
        passes: (input shapes, output shape, attrs) -> condition under which the output is the first input itself.
        keeps_zero: (attrs, shift) -> condition under which inputs of zeros give zeros, whatever the weights. `shift`
            says whether the learned shift of a batch norm counts, which makes something of zeros.
        zero: the output is zeros, whatever comes in.
        commutes: the inputs may change places, but for the size of the output, which is that of the first.
        linear: without weights, and of a sum it makes the sum of what it makes of the terms.
    """

    passes: Callable[[Sequence[Shape], Shape, Attrs], Value] = _never
    keeps_zero: Callable[[Attrs, bool], Value] = _never
    zero: bool = False
    commutes: bool = False
    linear: bool = False


NONE_KNOWN = Identities()
KEEPS_ZERO = Identities(keeps_zero=lambda attrs, shift: True)
LINEAR = KEEPS_ZERO._replace(linear=True)


@dataclass(frozen=True)
class Operator:
    """One entry of the catalogue. The rules are plain functions; only `module` needs torch, and is imported when a
    network is built.

    Attributes:
        params: in order; the first may stand bare in a call. Parameters named `out` give the output's width.
        shape: (input shapes, attrs) -> output shape. Numbers may be values over decisions.
        cost: (input shapes, output shape, attrs) -> Cost, written with + * // so that numbers and values over
            decisions both work.
        module: "package.module:Class", a torch module that knows nothing of the compiler, or a function that makes one.
        arguments: (input shapes, output shape, attrs), all plain -> the keyword arguments of that class.
        shares: which entries of each parameter and buffer a smaller setting uses, or of which its own are `Made`;
            names left out are used whole. The arguments are the larger attrs and input shapes and the smaller ones, all
            plain.
        units: search units that the setting has.
        must: (input shapes, attrs) -> what has to hold for every choice, each with what to say where it does not.
        least: parameters that need the more weights the smaller they are.
        covers: (input shapes, attrs, greatest) -> attributes of the setting that holds the weights of all, where those
            are not each at its greatest: `greatest` gives a number that a value never exceeds.
        alive: condition under which the operator has an output at all (a MixConv without a channel has none).
        inputs: how many tensors it reads; -1 for any number (a branch bundle), of which it reads those that are there.
        needs: of any number of inputs, how many at the end have to be there: the boxes behind a pyramid's maps.
        by_input: of any number of inputs, whether it has weights for each, also where some are not there. Then the
            attrs of `shares` have `places`, which says of each input which one of all it is, and those of `cost` have
            `there`, the conditions under which each one is there.
        groups: of any number of inputs, into how many groups of one size they fall: logits of all levels, then deltas.
        identities: what is known of the output without the weights.
        zeros: (arguments of the module, those of a smaller one) -> whether the larger module, with zeros in place of
            the weights and the channels of inputs that the smaller one lacks, computes what that one does, and zeros in
            the channels that it lacks.
        doc: what it does, in a few words.
        example: of its use, for the reference.
        where: `built-in`, or the package that has it.
    """

    name: str
    params: tuple[Param, ...]
    shape: Callable[[Sequence[Shape], Attrs], Shape]
    cost: Callable[[Sequence[Shape], Shape, Attrs], Cost]
    module: str
    arguments: Callable[[Sequence[Shape], Shape, Attrs], dict[str, Any]]
    shares: Callable[[Attrs, Attrs, Sequence[Shape], Sequence[Shape]], dict[str, tuple[Index, ...]]] = _no_sharing
    units: Callable[[Attrs], tuple[UnitGroup, ...]] = _no_units
    must: Callable[[Sequence[Shape], Attrs], Iterable[tuple[Value, ShapeProblem]]] = _nothing
    least: tuple[str, ...] = ()
    covers: Callable[[Sequence[Shape], Attrs, Callable[[Value], Any]], dict[str, Any]] = _as_they_are
    alive: Callable[[Attrs], Value] = _always
    inputs: int = 1
    needs: int = 0
    by_input: bool = False
    groups: int = 1
    identities: Identities = NONE_KNOWN
    zeros: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = _differently
    doc: str = ""
    where: str = field(default="built-in")
    example: Example | None = None

    def param(self, name: str) -> Param | None:
        return next((p for p in self.params if p.name == name), None)
