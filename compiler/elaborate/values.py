"""What an expression of the language can stand for, beside plain numbers, symbols, strings, tuples (lists) and
`Expr`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nasdsl.compiler import bound
from nasdsl.compiler.decision import FixedUnits as FixedUnits
from nasdsl.compiler.decision import Units as Units
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.expr import Value, both
from nasdsl.compiler.values.plain import KINDS, Symbol
from nasdsl.compiler.values.plain import is_number as is_number
from nasdsl.compiler.values.plain import kind_of as kind_of
from nasdsl.compiler.values.tree import Case, Expr, Slot

if TYPE_CHECKING:
    from nasdsl.compiler.ops.operator import Operator


@dataclass(frozen=True)
class Tensor:
    """A node's output. `present` is the condition under which it exists."""

    node: str
    shape: Shape
    present: Value = True
    label: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def lost(self) -> bool:
        """Whether this stands for what a step with a mistake would have made. Later steps are still looked at, as far
        as their mistakes do not hang on it; nothing is said of those that do."""
        return not self.node


LOST = Tensor("", Shape(1, 1, 1, 1))


def is_lost(flow: object) -> bool:
    return isinstance(flow, Tensor) and flow.lost


@dataclass(frozen=True)
class Branches:
    """A set of tensors of different scales, finest first where the scales are known."""

    tensors: tuple[Tensor, ...]


Flow = Tensor | Branches | None
"""What runs through a pipeline; None where there is no tensor."""


@dataclass(frozen=True)
class Record:
    """`{ key: value, ... }` in the order of the text."""

    entries: Mapping[Any, Any]
    span: Span | None = field(default=None, compare=False, repr=False)
    weight: int = field(default=1, compare=False, repr=False)


@dataclass(frozen=True)
class Guarded:
    """A list whose items are there only under a condition: a chosen subset, or the values in the copies that are
    present.
    """

    items: tuple[tuple[Any, Value], ...]


@dataclass(frozen=True)
class Unused(Guarded):
    """`unused`: labelled tensors that nothing has read. What reads one later takes it out, until they are added."""


@dataclass(frozen=True)
class Quantity:
    """`5 epochs`, `20 ms`."""

    value: int | Fraction
    unit: str


@dataclass(frozen=True)
class SizeValue:
    """`3 x 512 x 1024`: channels, height, width; or height, width."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Setting:
    """A call in a `search` or other settings section whose meaning its reader knows: `sgd(0.1, momentum: 0.9)`."""

    name: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Function:
    """`let f(x) = value`: each call decides anew."""

    name: str
    formals: tuple[bound.Formal, ...]
    body: bound.Expr
    frame: Any = field(compare=False, repr=False)  # a `Frame`, whose file reads this one


# --- Operators as values ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fusion:
    """A fusion with its arguments: `frame` is where its text stands, with them."""

    rule: bound.Fusion
    frame: Any = field(compare=False, repr=False)


Known = dict[tuple[str, str, int], str]
"""What the first use of an operator decided, for its next uses: the paths of decisions, by the path that the place
gives, where the expression stands, and how often that was met in this use."""


@dataclass(eq=False)
class Invocation:
    """An operator with its arguments. Its decisions are made at its first use and hold for all later ones."""

    definition: bound.Operator | Operator | bound.Form
    arguments: Mapping[str, Any]
    path: str  # of its decisions
    span: Span
    block: bound.Body | None = None
    frame: Any = None  # where the block's names are looked up
    spans: Mapping[str, Span] = field(default_factory=dict)
    known: Known = field(default_factory=dict)
    shared: bool = False  # whether all copies of the step have one set of weights
    decided: frozenset[str] = frozenset()  # arguments that were left out and whose defaults decided something

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(eq=False)
class Sequence:
    """`a -> b` as a value."""

    steps: tuple[Any, ...]
    span: Span


@dataclass(eq=False)
class Sum:
    """`a + b` of operators as a value."""

    terms: tuple[Any, ...]
    span: Span


@dataclass(frozen=True)
class Alternative:
    condition: Value
    label: str
    value: Any
    labelled: bool = False  # whether the text gives the label


@dataclass(eq=False)
class Alternatives:
    """One of several operators, by conditions that exclude each other and cover everything."""

    cases: tuple[Alternative, ...]
    span: Span
    path: str = ""


@dataclass(eq=False)
class Text:
    """A body in braces, `repeat`, `for` or `residual` used as a value: it is decided for each use.

    With `own_input`, the body of an operator's call, `in` and `at` mean what comes in where the operator uses it.
    """

    expr: bound.Expr
    frame: Any
    path: str
    known: Known = field(default_factory=dict)
    own_input: bool = False


class Items(tuple[Any, ...]):
    """A list that knows how much it holds, those in lists inside it counted each time."""

    weight: int = 1


def listed(items: Iterable[Any], span: Span) -> Items:
    """A list of some values.

    Raises:
        CompileError: it holds too much, parts that it has several times counted as often.
    """
    made = Items(items)
    made.weight = weighed(made, span)
    return made


def weighed(parts: Iterable[Any], span: Span) -> int:
    """How much a list or record of those parts holds. What shares its parts takes little memory, but is not the less
    to go through.
    """
    weight = 1 + sum(part.weight if isinstance(part, Items | Record) else 1 for part in parts)
    if weight > MOST_HELD:
        raise error("too-large", f"this holds more than {MOST_HELD:,} values", span)
    return weight


MOST_HELD = 50_000
"""Values in a list or record, those of lists inside it counted each time."""


def not_an_operator(value: Any, span: Span) -> CompileError:
    several = isinstance(value, tuple) and any(map(is_operator, value))
    help = "`sum(a, b)` and `concat(a, b)` join what several operators make" if several else ""
    return error("not-an-operator", f"an operator is needed here, and this is {describe(value)}", span, help=help)


def as_branches(value: Any) -> Branches | None:
    """A list of tensors as what can run through a pipeline; None for anything else."""
    if not isinstance(value, tuple | Guarded):
        return None
    items = value.items if isinstance(value, Guarded) else [(item, True) for item in value]
    tensors = [(item, there) for item, there in items if item is not None]
    if not tensors or not all(isinstance(item, Tensor) for item, _ in tensors):
        return None
    return Branches(tuple(replace(item, present=both(item.present, there)) for item, there in tensors))


OPERATOR_VALUES = (Invocation, Sequence, Sum, Alternatives, Text)


def starts_anew(items: tuple[Any, ...]) -> bool:
    """Whether one of some operators starts from a tensor with a name, and not from what comes in."""
    for item in items:
        first = item.steps[0] if isinstance(item, Sequence) else item
        if isinstance(first, Guarded):
            first = tuple(one for one, _ in first.items)
        if isinstance(first, Tensor | Branches) or (isinstance(first, tuple) and starts_anew(first)):
            return True
    return False


def is_none(value: Any) -> bool:
    """Whether the value is the word `none`."""
    return isinstance(value, Symbol) and value.word == "none"


def is_operator(value: Any) -> bool:
    return isinstance(value, OPERATOR_VALUES) or is_none(value)


def describe(value: Any) -> str:
    """The kind of a value, in the user's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if is_number(value):
        return f"the number {show(value)}"
    if isinstance(value, Symbol):
        return f"the symbol `{value.word}`"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, tuple | Guarded):
        return "a list"
    if isinstance(value, Record):
        return "a record"
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, Branches):
        return "a set of branches"
    if isinstance(value, Units | FixedUnits):
        return "search units"
    if isinstance(value, SizeValue):
        return "a size"
    if isinstance(value, Quantity):
        return f"{show(value.value)} {value.unit}"
    if isinstance(value, Function):
        return f"the function `{value.name}`"
    if isinstance(value, Invocation):
        return f"the operator `{value.name}`"
    if isinstance(value, OPERATOR_VALUES):
        return "an operator"
    if isinstance(value, Case | Slot):
        return f"one of {', '.join(show(v) for v in dict.fromkeys(value.values))}"
    if isinstance(value, Expr):
        kind = next(iter(value.kinds)) if len(value.kinds) == 1 else None
        return f"{'a value' if kind is None else KINDS[kind]} that depends on decisions"
    if isinstance(value, Setting):
        return f"the setting `{value.name}`"
    return type(value).__name__


def show(value: Any) -> str:
    """A value as a file would write it. What hangs on several decisions has no short form: they are named."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(show(v) for v in value) + "]"
    if isinstance(value, Record):
        return "{ " + ", ".join(f"{show(k)}: {show(v)}" for k, v in value.entries.items()) + " }"
    if isinstance(value, Symbol):
        return value.word
    if isinstance(value, FixedUnits):
        return str(value.count)
    if isinstance(value, Invocation):
        inner = ", ".join(f"{k}: {show(v)}" for k, v in value.arguments.items())
        return f"{value.name}({inner})"
    if isinstance(value, SizeValue):
        return " x ".join(show(p) for p in value.parts)
    if isinstance(value, Quantity):
        return f"{show(value.value)} {value.unit}"
    if isinstance(value, Case | Slot):
        return f"oneof({', '.join(show(v) for v in value.values)})"
    if isinstance(value, Expr):
        paths = sorted(value.decisions)
        return f"what {', '.join(paths[:2])}{' and others' if len(paths) > 2 else ''} decide"
    return str(value)
