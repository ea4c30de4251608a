"""Values are bound: each bare word is a name, a word with a meaning of its own, or a symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nasdsl.compiler import bound, measures, syntax
from nasdsl.compiler.bind.arguments import twice
from nasdsl.compiler.bind.base import AMBIENT, Base, Each, Place
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.messages import no_value, not_covered, unknown_option
from nasdsl.compiler.bind.walk import bound_in, walk
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.plain import Symbol

_ORDERED = ("-", "*", "/", "^", "<", "<=", ">", ">=")
"""Operators between numbers."""


class Values(Base):
    def value(self, node: syntax.Node, place: Place) -> bound.Expr:
        return _BIND[type(node)](self, node, place)

    # --- Atoms -------------------------------------------------------------------------------------------------------

    def plain(self, node: syntax.Number | syntax.String, place: Place) -> bound.Expr:
        if isinstance(node, syntax.Number) and node.unit is not None:
            return bound.Quantity(node.value, node.unit, span=node.span)
        return bound.Constant(node.value, span=node.span)

    def incoming(self, node: syntax.Incoming, place: Place) -> bound.Expr:
        return bound.Ambient("in", span=node.span)

    def name(self, node: syntax.Name, place: Place) -> bound.Expr:
        word = node.name
        meaning: bound.Expr | None = None
        if word in AMBIENT:
            meaning = bound.Ambient(word, span=node.span)
        elif word in self.vocabulary.values:
            meaning = bound.Constant(self.vocabulary.values[word], span=node.span)
        known, declared = place.names.find(word)
        if known:
            return bound.Name(word, declared, meaning, span=node.span)
        return meaning or bound.Constant(Symbol(word, node.span), span=node.span)

    def number(self, node: syntax.Node, place: Place, words: tuple[str, ...] = ()) -> bound.Expr:
        """A value where a number has to stand, or one of some words."""

        def each(part: syntax.Node, place: Place) -> bound.Expr:
            return self.number(part, place, words)

        if isinstance(node, syntax.Name):
            word = node.name
            known = self.is_known(word, place) or word in words
            if not known and measures.lookup(word) is None:  # last, as this looks for other packages
                return self.told(no_value(word, node.span, place.names))
        elif isinstance(node, syntax.If):
            return self.conditional(node, place, each)
        elif isinstance(node, syntax.Match):
            return self.match(node, place, each)
        elif isinstance(node, syntax.Call) and node.function.name == "oneof":
            return self.call(node, place, each=each)
        return self.value(node, place)

    # --- Lists and records -------------------------------------------------------------------------------------------

    def listing(self, node: syntax.List, place: Place) -> bound.Expr:
        items: list[bound.Expr] = []
        for item in node.items:
            if isinstance(item, syntax.Named | syntax.Let | syntax.Require):
                help = "entries `key: value` stand in braces"
                items.append(self.report("misplaced", "a list holds values", item.span, help=help))
            else:
                items.append(self.value(item, place))
        return bound.List(tuple(items), span=node.span)

    def range(self, node: syntax.Range, place: Place) -> bound.Expr:
        ends = (node.first, node.last, *(() if node.step is None else (node.step,)))
        first, last, *step = [self.number(part, place) for part in ends]
        return bound.Range(first, last, step[0] if step else None, span=node.span)

    def size(self, node: syntax.Size, place: Place) -> bound.Expr:
        return bound.Size(tuple(self.number(part, place) for part in node.parts), span=node.span)

    def comprehension(self, node: syntax.Comprehension, place: Place) -> bound.Expr:
        binds: list[bound.Bind] = []
        for bind in node.binds:
            binds.append(self.bind(bind, place))
            place = place.inside({bind.name: bind})
        return bound.Comprehension(tuple(binds), self.value(node.body, place), span=node.span)

    def bind(self, bind: syntax.Bind, place: Place) -> bound.Bind:
        return bound.Bind(bind.name, self.value(bind.source, place), span=bind.span)

    def block(self, node: syntax.Block, place: Place) -> bound.Expr:
        """Braces in the place of a value: a record where all in it has names, else text."""
        if not node.items or not all(isinstance(item, syntax.Named) for item in node.items):
            return self.body(node, place.inside(bound_in(node.items)))
        entries: list[tuple[bound.Expr, bound.Expr]] = []
        for item in node.items:
            assert isinstance(item, syntax.Named)
            if isinstance(item.key, syntax.Else):
                key: bound.Expr = self.stray_else(item.key)
            elif isinstance(item.key, syntax.Name):
                key = bound.Constant(Symbol(item.key.name, item.key.span), span=item.key.span)
            else:
                key = self.value(item.key, place)
            entries.append((key, self.value(item.value, place)))
        return bound.Record(tuple(entries), span=node.span)

    # --- Operations --------------------------------------------------------------------------------------------------

    def unary(self, node: syntax.Unary, place: Place) -> bound.Expr:
        return bound.Unary(node.operator, self.value(node.operand, place), span=node.span)

    def binary(self, node: syntax.Binary, place: Place) -> bound.Expr:
        bind = self.number if not place.settings and node.operator in _ORDERED else self.value
        if node.operator in ("==", "!="):
            for one, other in ((node.left, node.right), (node.right, node.left)):
                known = self.alternatives(one, place)
                word = other.name if isinstance(other, syntax.Name) and other.name not in place.names else None
                if known is not None and word is not None and word not in known:
                    return self.told(unknown_option(word, other.span, known))
            words = [side.name for side in (node.left, node.right) if isinstance(side, syntax.Name)]
            if len(words) == 2 and not place.settings and not any(self.is_known(word, place) for word in words):
                return self.told(no_value(words[0], node.left.span, place.names))
        return bound.Binary(node.operator, bind(node.left, place), bind(node.right, place), span=node.span)

    def conditional(self, node: syntax.If, place: Place, each: Each) -> bound.Expr:
        then, otherwise = each(node.then, place), each(node.otherwise, place)
        return bound.If(then, self.value(node.condition, place), otherwise, span=node.span)

    def alternatives(self, node: syntax.Node, place: Place) -> list[str] | None:
        """The words that a name may stand for, where its declaration lists them."""
        if not isinstance(node, syntax.Name):
            return None
        declared = place.names.find(node.name)[1]
        items: tuple[syntax.Item, ...] = ()
        if isinstance(declared, syntax.Param) and declared.choices and isinstance(declared.value, syntax.List):
            items = declared.value.items
        elif isinstance(declared, syntax.Let) and declared.formals is None:
            value = declared.value
            items = (value.arguments or ()) if isinstance(value, syntax.Call) and value.function.name == "oneof" else ()
        words = [item.name for item in items if isinstance(item, syntax.Name) and not self.at_top(item.name)]
        return words if len(words) == len(items) > 1 else None

    def match(self, node: syntax.Match, place: Place, each: Each) -> bound.Expr:
        head = self.value(node.head, place)
        known = self.alternatives(node.head, place)
        seen: dict[str, Span] = {}
        complete = known is not None
        cases: list[bound.Case] = []
        for position, item in enumerate(node.cases.items):
            if not isinstance(item, syntax.Named):
                self.report("misplaced", "a `match` holds alternatives `key: value`", item.span)
                complete = False
                continue
            value = each(item.value, place)
            if isinstance(item.key, syntax.Else):
                complete = False
                if position + 1 != len(node.cases.items):
                    self.report("misplaced", "`else` comes last", item.key.span)
                cases.append(bound.Case(None, "", value, span=item.key.span))
                continue
            key, word = self.key(item.key, place)
            cases.append(bound.Case(key, word, value, span=item.key.span))
            text = " ".join(item.key.span.text.split())
            if text in seen:
                self.told(twice(f"the alternative `{text}`", item.key.span, seen[text]))
            seen.setdefault(text, item.key.span)
            if known is not None and isinstance(item.key, syntax.Name) and text not in known:
                complete = False
                if text not in place.names:
                    cases.pop()
                    self.told(unknown_option(text, item.key.span, known))
        missing = [option for option in known or () if option not in seen]
        if complete and missing:
            return self.told(not_covered(node.head.span, missing))
        return bound.Match(head, tuple(cases), span=node.span)

    def key(self, node: syntax.Expr, place: Place) -> tuple[bound.Expr, str]:
        """The key of an alternative, and the word that it is."""
        if isinstance(node, syntax.Name) and node.name not in ("true", "false"):
            return bound.Constant(Symbol(node.name, node.span), span=node.span), node.name
        return self.value(node, place), ""

    def field(self, node: syntax.Field, place: Place) -> bound.Expr:
        base, name = node.base, node.name
        owner = base.name if isinstance(base, syntax.Name) else ""
        declared = self.declared.operators.get(owner) or self.declared.fusions.get(owner)
        if isinstance(base, syntax.Name) and owner not in place.names:
            if declared is None and not self.is_known(owner, place):
                help = near(owner, (*self.declared.operators, *place.names))
                message = f"no operator or value named `{owner}`"
                return self.report("unknown-name", message, base.span, "not found", help=help)
            if declared is not None and name.name not in declared.made:
                help = near(name.name, declared.made) or (
                    f"it has {', '.join(declared.made)}" if declared.made else "it has no `let` and no `repeat`"
                )
                message = f"`{owner}` has no value named `{name.name}`"
                return self.report("unknown-field", message, name.span, "not found", help=help)
        kept = owner if declared is not None else ""
        return bound.Field(self.value(base, place), name.name, kept, name.span, span=node.span)

    def index(self, node: syntax.Index, place: Place) -> bound.Expr:
        return bound.Index(self.value(node.base, place), self.value(node.index, place), span=node.span)

    def entries(self, items: Iterable[syntax.Item], place: Place, kind: str) -> tuple[bound.Entry, ...]:
        """The entries of a section, by their names."""
        seen: dict[str, Span] = {}
        out: list[bound.Entry] = []
        for item in items:
            if not isinstance(item, syntax.Named) or not isinstance(item.key, syntax.Name):
                self.report("misplaced", f"`{kind}` holds entries `key: value`", item.span)
                continue
            key = item.key.name
            if key in seen:
                self.told(twice(f"the entry `{key}`", item.key.span, seen[key]))
                continue
            seen[key] = item.key.span
            out.append(bound.Entry(key, self.value(item.value, place), item.key.span, span=item.span))
        return tuple(out)


def values_of(item: syntax.Operator | syntax.Fusion) -> tuple[str, ...]:
    """What `operator.name` may ask for: its `let`s, and the depth of its repeats."""
    out: dict[str, None] = {}
    for node in walk(item.body):
        if isinstance(node, syntax.Let) and node.formals is None:
            out[node.name.name] = None
        if isinstance(node, syntax.Repeat):
            out["depth"] = None
    return tuple(out)


_BIND: Mapping[type, Callable[..., bound.Expr]] = {
    syntax.Number: Values.plain,
    syntax.String: Values.plain,
    syntax.Name: Values.name,
    syntax.Incoming: Values.incoming,
    syntax.List: Values.listing,
    syntax.Range: Values.range,
    syntax.Size: Values.size,
    syntax.Comprehension: Values.comprehension,
    syntax.Block: Values.block,
    syntax.Unary: Values.unary,
    syntax.Binary: Values.binary,
    syntax.If: lambda self, node, place: self.conditional(node, place, self.value),
    syntax.Match: lambda self, node, place: self.match(node, place, self.value),
    syntax.Field: Values.field,
    syntax.Index: Values.index,
    syntax.Pipe: lambda self, node, place: self.step(node, place),
    syntax.Repeat: lambda self, node, place: self.step(node, place),
    syntax.For: lambda self, node, place: self.step(node, place),
    syntax.Call: lambda self, node, place: self.call(node, place),
}
