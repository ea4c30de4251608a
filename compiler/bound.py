"""The bound tree: syntax in which each name knows what it stands for, each call its definition and its arguments by
parameter, and each step its name in paths. `bind/` makes it of syntax, `elaborate/` walks it.

What is wrong with a name, an argument or the place of a word is told when the tree is bound; a part with such a mistake
is `Bad`, and nothing more is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.example import Example, Manual
from nasdsl.compiler.frozen import Frozen
from nasdsl.compiler.frozen import field as part
from nasdsl.compiler.ops.operator import Operator as Catalogued
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.function import Call

SLOTS = ("backbone", "neck", "proposals", "head")
"""The parts of a `detector`, in the order in which they are run."""

NETWORKS = ("network", "detector")
"""Sections that say what the network is."""

# --- What calls call --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """A parameter of a form.

    Attributes:
        role: what its argument is: a `value`, a `number`, a `step` that is applied to a tensor, or a fusion `rule`.
        doc: what it means.
        words: words that are no names and may stand for a number.
        missing, usage: what is said where a call has to give it and does not; both empty where it need not.
    """

    name: str
    role: str = "value"
    doc: str = ""
    words: tuple[str, ...] = ()
    missing: str = ""
    usage: str = ""


@dataclass(frozen=True)
class Form:
    """An operator of the language itself (`parallel`, `fuse`, `residual`, ...): it acts on branches or on text in
    braces. Each has a file in `forms/`.

    Attributes:
        parameters: by name; the first may stand bare.
        run: (invocation, what comes in, frame, name, place) -> what goes out.
        doc: what it does, in a few words; `text` says the rest, in paragraphs.
        rest: what arguments without a name are: "" where there are none but the first, else their role.
        body: whether it takes text in braces, which has to be there where no `operator` is given.
        names: words that have a value in the text in braces.
        own_step: whether what it makes goes by its name in paths.
        joins: whether the steps in its braces belong to the body around it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., Any]
    doc: str
    text: str
    example: Example
    rest: str = ""
    body: bool = False
    names: tuple[str, ...] = ()
    own_step: bool = False
    joins: bool = False


@dataclass(frozen=True)
class Function:
    """A function of values, or one that makes a decision.

    Attributes:
        run: (call, frame, path) -> value.
        call: how many arguments it takes, and an example; None for one that looks at its arguments itself.
        manual: what is told of it.
        numbers: which of its arguments have to be numbers: `all`, the `first`, all but that (`others`), or none.
    """

    name: str
    run: Callable[..., Any]
    call: Call | None
    manual: Manual | None
    numbers: str = ""

    def takes_number(self, position: int, count: int) -> bool:
        """Whether one of its arguments, of so many, has to be a number."""
        if self.numbers == "all":  # one list may stand for them
            return count > 1 or self.call is None or not self.call.of_items
        return self.numbers == ("first" if position == 0 else "others")


@dataclass(eq=False)
class Formal:
    """A parameter of an operator, a function or a fusion of the file."""

    name: str
    span: Span
    allowed: Expr | None = None
    default: Expr | None = None


@dataclass(eq=False)
class Operator:
    """`operator name(formals) ...`, of the file or of the library.

    Attributes:
        body: bound behind all declarations, as operators may use each other.
        file: of the library, the name of its file; empty for what the user's files declare.
        made: the values that `previous` inside, and `name.value` elsewhere, may ask for.
    """

    name: str
    span: Span
    text: syntax.Operator
    file: str = ""
    made: tuple[str, ...] = ()
    formals: tuple[Formal, ...] = ()
    body: Expr = field(init=False)


@dataclass(eq=False)
class Fusion:
    """`fusion name { ... }`: its `let`s and its entries. `sources` is its entry `from`."""

    name: str
    span: Span
    text: syntax.Fusion
    file: str = ""
    made: tuple[str, ...] = ()
    formals: tuple[Formal, ...] = ()
    lets: tuple[Let, ...] = ()
    entries: Mapping[str, Expr] = field(default_factory=dict)
    sources: str = ""


# --- Expressions ------------------------------------------------------------------------------------------------------


class Node(Frozen):
    """Any part of the tree; `span` is the text that it was read from."""

    span: Span = part(compare=False, repr=False, kw_only=True)


class Bad(Node):
    """A part with a mistake that has been told."""


class Constant(Node):
    """A number, a string, a truth value, or a word that is no name."""

    value: Any


class Quantity(Node):
    """`5 epochs`."""

    value: Any
    unit: str


class Name(Node):
    """A name of the text.

    Attributes:
        declared: where, if that is plain: a label holds in its whole body, and there may be several.
        otherwise: what the word means where the name has no value, if it means something.
    """

    name: str
    declared: syntax.Node | None
    otherwise: Expr | None


class Ambient(Node):
    """A word that means something of the place where it stands: `in`, `at`, `inputs`, `branches`, `earlier`,
    `unused`, `regions`."""

    word: str


class List(Node):
    items: tuple[Expr, ...]


class Bind(Node):
    name: str
    source: Expr


class Comprehension(Node):
    binds: tuple[Bind, ...]
    body: Expr


class Record(Node):
    entries: tuple[tuple[Expr, Expr], ...]


class Unary(Node):
    operator: str
    operand: Expr


class Binary(Node):
    operator: str
    left: Expr
    right: Expr


class Size(Node):
    parts: tuple[Expr, ...]


class Range(Node):
    first: Expr
    last: Expr
    step: Expr | None


class If(Node):
    then: Expr
    condition: Expr
    otherwise: Expr


class Case(Node):
    """An alternative of a `match`. `key` is None for `else`; `word` is the key as written, where it is a name."""

    key: Expr | None
    word: str
    value: Expr


class Match(Node):
    head: Expr
    cases: tuple[Case, ...]


class Field(Node):
    """`base.name`. Where an operator or a fusion is called as the base is, `owner` is its name."""

    base: Expr
    name: str
    owner: str
    place: Span


class Index(Node):
    base: Expr
    index: Expr


class Pipe(Node):
    steps: tuple[Expr, ...]


# --- Calls ------------------------------------------------------------------------------------------------------------


class Calling(Node):
    """A call. `called` is the name that is called, `step` how paths name it where it is a step of a body."""

    called: str
    step: str


class Apply(Calling):
    """A call of a function of the language. `labels` are those of the options of `oneof`, empty for those without;
    `word` is the name that `previous` asks for."""

    function: Function
    arguments: tuple[Expr, ...]
    labels: tuple[str, ...] = ()
    word: str = ""


class Evaluation(Calling):
    """A call of a function of the file: `let name(formals) = value`. `place` is that of its name."""

    arguments: Mapping[str, Expr]
    place: Span = part(compare=False, repr=False)


class Given(Node):
    """An argument of a call whose parameters are only known when the value that is called is."""

    key: str
    word: str
    value: Expr


class Again(Calling):
    """A call of a value: an operator that was decided, with other arguments; or a function that came as an argument."""

    callee: Name
    given: tuple[Given, ...]


class Invocation(Calling):
    """An operator with its arguments by parameter; `rest` are those without a name, `body` the text in braces."""

    definition: Operator | Catalogued | Form
    arguments: Mapping[str, Expr]
    rest: tuple[Expr, ...] = ()
    body: Body | None = None


class Rule(Node):
    """A fusion with its arguments."""

    fusion: Fusion
    arguments: Mapping[str, Expr]


class Setting(Calling):
    """A call in a settings section whose meaning its reader knows."""

    positional: tuple[Expr, ...]
    named: Mapping[str, Expr]


# --- Steps ------------------------------------------------------------------------------------------------------------


class Let(Node):
    """`span` is that of the name."""

    name: str
    formals: tuple[Formal, ...] | None
    value: Expr


class Require(Node):
    """`require condition`. `asks` is whether it asks for a part of something, `segment.depth`."""

    condition: Expr
    asks: bool


class Labelled(Node):
    """`label: step`; `span` is that of the whole."""

    label: str
    value: Expr
    place: Span


class Body(Node):
    """`{ ... }` that holds steps."""

    items: tuple[Item, ...]


class Repeat(Node):
    step: str
    count: Expr
    body: Body


class For(Node):
    step: str
    bind: Bind
    body: Body


Expr = (
    Bad
    | Constant
    | Quantity
    | Name
    | Ambient
    | List
    | Comprehension
    | Record
    | Unary
    | Binary
    | Size
    | Range
    | If
    | Match
    | Field
    | Index
    | Pipe
    | Apply
    | Evaluation
    | Again
    | Invocation
    | Rule
    | Setting
    | Body
    | Repeat
    | For
)
Item = Expr | Let | Require | Labelled

# --- Declarations -----------------------------------------------------------------------------------------------------


class Param(Node):
    """`param name = value`; `span` is that of the name."""

    name: str
    choices: bool
    value: Expr


class Input(Node):
    value: Expr


class Entry(Node):
    """An entry of a section: `key: value`."""

    key: str
    value: Expr
    place: Span


class Section(Node):
    """A section; `body` of a network, `entries` of the others. `span` is that of its kind."""

    kind: str
    text: syntax.Section
    entries: tuple[Entry, ...] = ()
    body: Body | None = None
