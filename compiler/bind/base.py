"""Where a binding stands: the names that hold, the definitions there are, and the mistakes found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from nasdsl.compiler import bound, ops, syntax
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.source import Span

MOST_FOUND = 200
"""Mistakes of names after which a file is taken for something else."""

AMBIENT = ("earlier", "unused", "inputs", "at", "branches", "regions")
"""Words that mean something of the place where they stand."""

Found = syntax.Node | None

Extent = tuple[int, int]
"""Where a part of a text begins and ends, which no two calls of a body share."""

StepNames = Mapping[Extent, str]
"""The names of the steps of a body."""

NO_NAMES: StepNames = MappingProxyType({})


def extent(node: syntax.Node) -> Extent:
    return node.span.start, node.span.end


Each = Callable[[syntax.Node, "Place"], bound.Expr]
"""How an alternative is bound."""


class Names:
    """The names that hold at a place, each with what it stands for where the text says so plainly (else None)."""

    def __init__(self, outer: Names | None = None, names: Mapping[str, Found] | None = None):
        self.outer = outer
        self.names = dict(names or {})

    def find(self, name: str) -> tuple[bool, Found]:
        scope: Names | None = self
        while scope is not None:
            if name in scope.names:
                return True, scope.names[name]
            scope = scope.outer
        return False, None

    def __contains__(self, name: str) -> bool:
        return self.find(name)[0]

    def __iter__(self) -> Iterator[str]:
        scope: Names | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.outer


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        settings: whether that is a section of settings, where words and calls mean what its reader says.
        made: the values of the operator or fusion around it that `previous` may ask for; None outside.
    """

    names: Names
    settings: bool = False
    made: tuple[str, ...] | None = None

    def inside(self, names: Mapping[str, Found]) -> Place:
        return replace(self, names=Names(self.names, names))


@dataclass(frozen=True)
class Vocabulary:
    """What the language itself has: forms, functions, and words with a value."""

    forms: Mapping[str, bound.Form]
    functions: Mapping[str, bound.Function]
    values: Mapping[str, object]


@dataclass
class Declared:
    """The definitions that a text can use.

    Attributes:
        operators, fusions: what files declare.
        defaults: parameters to which a section `defaults` gives a value.
    """

    operators: dict[str, bound.Operator] = field(default_factory=dict)
    fusions: dict[str, bound.Fusion] = field(default_factory=dict)
    defaults: frozenset[str] = frozenset()


class Base:
    """What the parts of the binder share. Each part is a class of its own; `Binder` has them all."""

    def __init__(self, vocabulary: Vocabulary, declared: Declared):
        self.vocabulary, self.declared = vocabulary, declared
        self.found: list[Diagnostic] = []

    def report(
        self, code: str, message: str, span: Span, label: str = "", others: tuple[Label, ...] = (), help: str = ""
    ) -> bound.Bad:
        return self.told(Diagnostic(code, message, span, label, others, help))

    def told(self, *diagnostics: Diagnostic) -> bound.Bad:
        """Notes mistakes; what stands for the part that has them."""
        self.found.extend(diagnostics[: max(0, MOST_FOUND - len(self.found))])
        span = diagnostics[0].span
        assert span is not None
        return bound.Bad(span=span)

    def is_known(self, word: str, place: Place) -> bool:
        """Whether a bare word has a value."""
        return word in place.names or word in AMBIENT or word in self.vocabulary.values or word == "none"

    def callable_names(self) -> tuple[str, ...]:
        declared, words = self.declared, self.vocabulary
        return (*declared.operators, *words.forms, *ops.CATALOGUE, *self.library_names())

    def stray_else(self, node: syntax.Else) -> bound.Bad:
        return self.report("misplaced", "`else` belongs to `match`", node.span)

    def fusion_as_operator(self, node: syntax.Name) -> bound.Bad:
        help = f"write `fuse({node.name})`"
        return self.report("fusion-as-operator", f"`{node.name}` is a fusion rule", node.span, help=help)

    # What the parts have from each other.

    def library_names(self) -> Iterable[str]:
        raise NotImplementedError

    def value(self, node: syntax.Node, place: Place) -> bound.Expr:
        raise NotImplementedError

    def number(self, node: syntax.Node, place: Place, words: tuple[str, ...] = ()) -> bound.Expr:
        raise NotImplementedError

    def step(self, node: syntax.Node, place: Place, names: StepNames = NO_NAMES) -> bound.Expr:
        raise NotImplementedError

    def alone(self, node: syntax.Node, place: Place) -> bound.Expr:
        raise NotImplementedError

    def body(self, node: syntax.Block, place: Place) -> bound.Body:
        raise NotImplementedError

    def call(self, node: syntax.Call, place: Place, step: str = "", each: Each | None = None) -> bound.Expr:
        raise NotImplementedError

    def let(self, item: syntax.Let, place: Place) -> bound.Let:
        raise NotImplementedError

    def formals(self, formals: tuple[syntax.Formal, ...], place: Place) -> tuple[tuple[bound.Formal, ...], Place]:
        raise NotImplementedError

    def bind(self, bind: syntax.Bind, place: Place) -> bound.Bind:
        raise NotImplementedError

    def conditional(self, node: syntax.If, place: Place, each: Each) -> bound.Expr:
        raise NotImplementedError

    def at_top(self, name: str) -> bool:
        """Whether a name is one of the whole space."""
        raise NotImplementedError

    def match(self, node: syntax.Match, place: Place, each: Each) -> bound.Expr:
        raise NotImplementedError
