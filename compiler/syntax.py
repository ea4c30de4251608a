"""The syntax tree of a `.space` file: one frozen class per construct, each with the span it was read from.

Spans do not count in equality, so that `parse(unparse(tree)) == tree` is the whole round-trip property.
"""

from __future__ import annotations

from fractions import Fraction

from nasdsl.compiler.frozen import Frozen, field
from nasdsl.compiler.source import Span


class Node(Frozen):
    """Any part of the tree; `span` is the text that it was read from."""

    span: Span = field(compare=False, repr=False, kw_only=True)


# --- Expressions -----------------------------------------------------------------------------------------------------


class Number(Node):
    """`24`, `1.6e-4`, `600M`, `5 epochs`. `text` is the number as written, without its unit; `value` is exact."""

    value: int | Fraction
    unit: str | None
    text: str = field(compare=False)


class String(Node):
    """`"text"`; `value` is what stands between the quotes."""

    value: str


class Name(Node):
    """A word that is no keyword; after a dot, any word."""

    name: str


class Incoming(Node):
    """`in` as a value: the incoming width."""


class List(Node):
    """`[a, b]`."""

    items: tuple[Item, ...]


class Bind(Node):
    """`name in source`, of `for` and of comprehensions."""

    name: str
    source: Expr


class Comprehension(Node):
    """`[for k in [3, 5], d in 1..3: body]`; the last bind varies fastest."""

    binds: tuple[Bind, ...]
    body: Expr


class Call(Node):
    """`function(arguments) { body }`. `arguments` is None where there were no parentheses (`residual { ... }`)."""

    function: Name
    arguments: tuple[Item, ...] | None
    body: Block | None


class Field(Node):
    """`base.name`."""

    base: Expr
    name: Name


class Index(Node):
    """`base[index]`."""

    base: Expr
    index: Expr


class Unary(Node):
    """`-operand`, `not operand`."""

    operator: str  # "-" or "not"
    operand: Expr


class Binary(Node):
    """`+ - * / ^ == != <= >= < > in and or implies`."""

    operator: str
    left: Expr
    right: Expr
    operator_span: Span = field(compare=False, repr=False, kw_only=True)


class Size(Node):
    """`3 x 512 x 1024` (or two parts)."""

    parts: tuple[Expr, ...]


class Range(Node):
    """`first..last`, `first..last step step`."""

    first: Expr
    last: Expr
    step: Expr | None


class If(Node):
    """`then if condition else otherwise`."""

    then: Expr
    condition: Expr
    otherwise: Expr


class Pipe(Node):
    """`a -> b -> c`."""

    steps: tuple[Expr, ...]


class Block(Node):
    """`{ ... }`: steps of a body, or entries of a record; the place where it stands says which."""

    items: tuple[Item, ...]


class Match(Node):
    """`match head { a: x, else: y }`."""

    head: Expr
    cases: Block


class For(Node):
    """`for name in source { ... }`."""

    bind: Bind
    body: Block


class Repeat(Node):
    """`repeat count { ... }`."""

    count: Expr
    body: Block


# --- What may stand between brackets beside expressions --------------------------------------------------------------


class Else(Node):
    """The key `else` of a `match` or an `else:` argument."""


class Named(Node):
    """`key: value`: an argument, an entry, an alternative or a labelled step."""

    key: Expr | Else
    value: Expr


class Formal(Node):
    """A parameter in a declaration: `name`, `name in values`, either with `= default`."""

    name: Name
    allowed: Expr | None
    default: Expr | None


class Let(Node):
    """`let name = value`, or `let name(formals) = value` for a function."""

    name: Name
    formals: tuple[Formal, ...] | None
    value: Expr


class Require(Node):
    """`require condition`."""

    condition: Expr


# --- Declarations ----------------------------------------------------------------------------------------------------


class Param(Node):
    """`param name = value`, or `param name in [choices]` where the first is the default."""

    name: Name
    choices: bool
    value: Expr


class Input(Node):
    """`input value`."""

    value: Expr


class Operator(Node):
    """`operator name(formals) = expr` or `operator name(formals) { ... }` (then `body` is a Block)."""

    name: Name
    formals: tuple[Formal, ...]
    body: Expr


class Fusion(Node):
    """`fusion name { ... }`, `fusion name(formals) { ... }`."""

    name: Name
    formals: tuple[Formal, ...]
    body: Block


class Section(Node):
    """`network { ... }`, `detector { ... }`, `search shrink { ... }`."""

    kind: Name
    name: Name | None
    body: Block


class Pin(Node):
    """`place: value` in a `with` block; `place` is made of Name, Field and Index, or Else."""

    place: Expr | Else
    value: Expr


class Use(Node):
    """`use "path"`, `use "path" { name, name }`. Without names it is all that the file declares."""

    path: String
    names: tuple[Name, ...] | None = None


class Space(Node):
    """`space name { ... }`."""

    name: Name
    body: tuple[Declaration, ...]


class Derived(Node):
    """`space name = base with { changes }`."""

    name: Name
    base: Name
    changes: tuple[Pin | Input | Require | Section, ...]


class Comment(Node):
    """`# text` as written. Comments stand in `File.comments`, in the order of the text, and not in the tree."""

    text: str


class File(Node):
    """All that a file declares, and its comments."""

    items: tuple[Use | Space | Derived | Let | Operator | Fusion, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False, repr=False)


Expr = (
    Number
    | String
    | Name
    | Incoming
    | List
    | Comprehension
    | Call
    | Field
    | Index
    | Unary
    | Binary
    | Size
    | Range
    | If
    | Pipe
    | Block
    | Match
    | For
    | Repeat
)
Item = Expr | Named | Let | Require
Declaration = Let | Operator | Fusion | Param | Input | Require | Section
