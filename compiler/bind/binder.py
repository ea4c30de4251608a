"""A whole space is bound: its declarations, what it uses from files and from the library, and what `with` changes.

Scopes are taken a little too wide (a label holds in its whole body), so that nothing correct is reported. What needs
values is left to the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nasdsl.compiler import bound, ops, syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.arguments import twice
from nasdsl.compiler.bind.base import Declared, Names, Place, Vocabulary
from nasdsl.compiler.bind.calls import Calls
from nasdsl.compiler.bind.habits import near, near_argument
from nasdsl.compiler.bind.messages import one_of
from nasdsl.compiler.bind.steps import Steps
from nasdsl.compiler.bind.values import Values, values_of
from nasdsl.compiler.bind.walk import bound_in
from nasdsl.compiler.bound import NETWORKS, SLOTS
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label
from nasdsl.compiler.source import Span

SECTIONS = (*NETWORKS, "defaults", "published", "search", "train")
"""Sections with a known reader. Others are kept for whoever wants them, unless they look like one of these."""

ENTRIES = ("same", "down", "up", "any", "from", "merge", "then", "new")
SOURCES = ("neighbours", "all", "finer", "coarser")
"""What `from` of a fusion may say."""

MOST_PLACES = 3

Definition = syntax.Let | syntax.Operator | syntax.Fusion
Change = syntax.Pin | syntax.Input | syntax.Require | syntax.Section
Declaration = bound.Let | bound.Param | bound.Input | bound.Require | bound.Section


@dataclass(frozen=True)
class Bound:
    """A space as its text has it, bound.

    Attributes:
        definitions: the `let`s of the files, outside of spaces.
        declarations, changes: what the space declares, and what `with` changes, in the order of the text.
        found: the mistakes of names, in the order of the text.
        binder: for what comes from outside of the text.
    """

    definitions: tuple[bound.Let, ...]
    declarations: tuple[Declaration, ...]
    changes: tuple[Declaration, ...]
    found: tuple[Diagnostic, ...]
    binder: Binder


def bind(
    definitions: Sequence[Definition], space: syntax.Space, changes: Sequence[Change], vocabulary: Vocabulary
) -> Bound:
    """Binds a space, what it uses and what `with` changes; with it every mistake of a name."""
    binder = Binder(vocabulary, Declared())
    binder.declare(definitions, space)
    lets = [made for item in definitions if (made := binder.declaration(item)) is not None]
    own = [made for item in space.body if (made := binder.declaration(item)) is not None]
    more = [made for item in changes if (made := binder.declaration(item)) is not None]
    lets = [item for item in lets if isinstance(item, bound.Let)]
    return Bound(tuple(lets), tuple(own), tuple(more), tuple(binder.mistakes()), binder)  # type: ignore[arg-type]


class Binder(Values, Steps, Calls):
    def __init__(self, vocabulary: Vocabulary, declared: Declared, file: str = ""):
        super().__init__(vocabulary, declared)
        self.file = file
        self.top = Place(Names())

    def library(self, name: str) -> bound.Operator | None:
        file = library.OPERATORS.get(name)
        return None if file is None else load(file, self.vocabulary).declared.operators[name]

    def library_names(self) -> Iterable[str]:
        return library.OPERATORS

    def at_top(self, name: str) -> bool:
        return name in self.top.names.names

    def outside(self, node: syntax.Node, settings: bool = True) -> bound.Expr:
        """An expression that stands outside of the space: a pin's value, a setting from elsewhere.

        Raises:
            CompileError: with the mistakes of names in it.
        """
        before = len(self.found)
        value = self.value(node, replace(self.top, settings=settings))
        if len(self.found) > before:
            raise CompileError(self.found[before:])
        return value

    # --- Declarations ------------------------------------------------------------------------------------------------

    def declare(self, definitions: Iterable[syntax.Node], space: syntax.Space | None) -> None:
        """Makes known what the text declares; operators and fusions get their bodies later."""
        body = () if space is None else space.body
        names: dict[str, syntax.Node | None] = {}
        first: dict[tuple[bool, str], Span] = {}
        for item, own in [*((item, False) for item in definitions), *((item, True) for item in body)]:
            if not isinstance(item, syntax.Let | syntax.Operator | syntax.Fusion | syntax.Param):
                continue
            name, place = item.name.name, item.name.span
            is_value = isinstance(item, syntax.Let | syntax.Param)
            before = first.get((is_value, name))
            if before is not None and (not is_value or (own and before.source is place.source)):
                where = (Label(before, "here first"),)
                self.report("duplicate", f"`{name}` is defined twice", place, others=where)
                continue
            first[is_value, name] = place
            if isinstance(item, syntax.Operator):
                made = bound.Operator(name, place, item, self.file, values_of(item))
                self.declared.operators[name] = made
            elif isinstance(item, syntax.Fusion):
                self.declared.fusions[name] = bound.Fusion(name, place, item, self.file, values_of(item))
            else:
                names[name] = item
        sections = [item for item in body if isinstance(item, syntax.Section)]
        for section in sections:
            if section.kind.name == "detector":
                names.update(dict.fromkeys(SLOTS))
        keys = (bound_in(section.body.items) for section in sections if section.kind.name == "defaults")
        self.declared.defaults = frozenset(key for found in keys for key in found)
        self.top = Place(Names(None, names))
        self.sections(sections)

    def sections(self, sections: list[syntax.Section]) -> None:
        networks = [item for item in sections if item.kind.name in NETWORKS]
        seen: dict[str, syntax.Section] = {}
        for item in sections:
            kind = item.kind.name
            before = networks[0] if kind in NETWORKS else seen.setdefault(kind, item)
            if before is not item and kind != "defaults":
                what = "network" if kind in NETWORKS else f"section `{kind}`"
                where = (Label(before.kind.span, "here first"),)
                self.report("duplicate", f"a space has one {what}", item.kind.span, others=where)

    def declaration(self, item: syntax.Node) -> Declaration | None:
        if isinstance(item, syntax.Operator):
            self.body_of(item)
        elif isinstance(item, syntax.Fusion):
            self.fusion(item)
        elif isinstance(item, syntax.Let):
            return self.let(item, self.top)
        elif isinstance(item, syntax.Param):
            value = self.value(item.value, self.top)
            return bound.Param(item.name.name, item.choices, value, span=item.name.span)
        elif isinstance(item, syntax.Input):
            return bound.Input(self.value(item.value, self.top), span=item.value.span)
        elif isinstance(item, syntax.Require):
            return self.require(item, self.top)
        elif isinstance(item, syntax.Pin):
            self.pinned(item.value, replace(self.top, settings=True))
        elif isinstance(item, syntax.Section):
            return self.section(item)
        return None

    def body_of(self, item: syntax.Operator) -> None:
        operator = self.declared.operators.get(item.name.name)
        formals, place = self.formals(item.formals, self.top)
        inner = replace(place.inside(bound_in([item.body])), made=values_of(item))
        body = self.alone(item.body, inner)
        if operator is not None and operator.text is item:  # not one of the same name that came first
            operator.formals, operator.body = formals, body

    def formals(self, formals: tuple[syntax.Formal, ...], place: Place) -> tuple[tuple[bound.Formal, ...], Place]:
        """The parameters of a definition, and where its body stands. Defaults see all parameters."""
        seen: dict[str, Span] = {}
        out: list[bound.Formal] = []
        inner = place.inside({f.name.name: f for f in formals})
        for formal in formals:
            name, span = formal.name.name, formal.name.span
            if name in seen:
                self.told(twice(f"the parameter `{name}`", span, seen[name]))
            seen.setdefault(name, span)
            allowed = None if formal.allowed is None else self.value(formal.allowed, self.top)
            default = None if formal.default is None else self.value(formal.default, inner)
            out.append(bound.Formal(name, span, allowed, default))
        return tuple(out), inner

    def fusion(self, item: syntax.Fusion) -> None:
        fusion = self.declared.fusions.get(item.name.name)
        formals, inner = self.formals(item.formals, self.top)
        words = {**bound_in(item.body.items), "width": None, "scale": None}
        place = replace(inner.inside(words), made=values_of(item))
        lets: list[bound.Let] = []
        entries: dict[str, bound.Expr] = {}
        seen: dict[str, Span] = {}
        sources = ""
        for entry in item.body.items:
            if isinstance(entry, syntax.Let):
                lets.append(self.let(entry, place))
                continue
            if not isinstance(entry, syntax.Named) or not isinstance(entry.key, syntax.Name):
                self.report("misplaced", "a fusion holds `let`s and entries such as `same: ...`", entry.span)
                continue
            word = entry.key.name
            if word not in ENTRIES:
                message, help = f"a fusion has no entry `{word}`", near(word, ENTRIES) or f"it has {_listed(ENTRIES)}"
                self.report("unknown-entry", message, entry.key.span, "not an entry", help=help)
            elif word in seen:
                self.told(twice(f"the entry `{word}`", entry.key.span, seen[word]))
            seen.setdefault(word, entry.key.span)
            if word == "from":
                sources = self.sources(entry.value)
            else:
                entries.setdefault(word, self.alone(entry.value, place))
        if fusion is not None and fusion.text is item:
            fusion.formals, fusion.lets, fusion.entries, fusion.sources = formals, tuple(lets), entries, sources

    def sources(self, node: syntax.Expr) -> str:
        """Which branches feed which."""
        word = node.name if isinstance(node, syntax.Name) else ""
        if word in SOURCES:
            return word
        feeds = f"no way to feed branches is called `{word}`"
        message = feeds if word else "`from` of a fusion says which branches feed which"
        self.report("bad-argument", message, node.span, help=one_of(word, SOURCES))
        return "all"

    def pinned(self, node: syntax.Node, place: Place) -> None:
        """The value of a pin. The name of an option, `ir(k: 3, e: 6)`, only has the arguments that tell it apart."""
        if isinstance(node, syntax.Block | syntax.List):
            for item in node.items:
                self.pinned(item.value if isinstance(item, syntax.Named) else item, place)
        elif isinstance(node, syntax.Call) and node.function.name in ("oneof", "units"):
            for item in node.arguments or ():
                self.pinned(item, place)
        elif not (isinstance(node, syntax.Call) and node.function.name in self.callable_names()):
            self.value(node, place)

    # --- Sections ----------------------------------------------------------------------------------------------------

    def section(self, item: syntax.Section) -> bound.Section | None:
        kind = item.kind.name
        inner = self.top.inside(bound_in(item.body.items)) if kind in NETWORKS else self.top
        if kind == "network":
            return bound.Section(kind, item, (), self.body(item.body, inner), span=item.kind.span)
        if kind == "detector":
            return bound.Section(kind, item, self.slots(item, inner), span=item.kind.span)
        if kind not in SECTIONS and (help := near(kind, SECTIONS)):
            self.report("unknown-section", f"no section is called `{kind}`", item.kind.span, "not known", help=help)
            return None
        if kind == "defaults":
            self.defaults(item)
        entries = self.entries(item.body.items, replace(self.top, settings=kind != "defaults"), kind)
        return bound.Section(kind, item, entries, span=item.kind.span)

    def slots(self, item: syntax.Section, place: Place) -> tuple[bound.Entry, ...]:
        seen: dict[str, Span] = {}
        out: list[bound.Entry] = []
        shown = ", ".join(f"`{name}: ...`" for name in SLOTS)
        for slot in item.body.items:
            if not isinstance(slot, syntax.Named) or not isinstance(slot.key, syntax.Name):
                lost: bound.Expr = self.report(
                    "misplaced", "a detector holds slots", slot.span, help=f"its slots are {shown}"
                )
                out.append(bound.Entry("", lost, slot.span, span=slot.span))
                continue
            word, place_of = slot.key.name, slot.key.span
            value = self.alone(slot.value, place)
            if word not in SLOTS:
                help = near(word, SLOTS) or "its slots are `backbone`, `neck`, `proposals` and `head`"
                value = self.report("unknown-slot", f"a detector has no slot `{word}`", place_of, help=help)
            elif word in seen:
                self.told(twice(f"the slot `{word}`", place_of, seen[word]))
            seen.setdefault(word, place_of)
            out.append(bound.Entry(word, value, place_of, span=slot.span))
        return tuple(out)

    def defaults(self, item: syntax.Section) -> None:
        known = {p.name for operator in ops.CATALOGUE.values() for p in operator.params}
        for entry in item.body.items:
            if isinstance(entry, syntax.Named) and isinstance(entry.key, syntax.Name) and entry.key.name not in known:
                word, help = entry.key.name, near_argument(entry.key.name, known)
                message = f"no operator has a parameter `{word}`"
                self.report("unknown-argument", message, entry.key.span, "not a parameter", help=help)

    # --- What was found ----------------------------------------------------------------------------------------------

    def mistakes(self) -> list[Diagnostic]:
        """All mistakes so far, in the order of the text."""
        unique = {(d.code, d.span): d for d in reversed(self.found)}
        sources = dict.fromkeys(d.span.source for d in self.found if d.span)
        order = {source: i for i, source in enumerate(sources)}
        return _together(
            sorted(unique.values(), key=lambda d: (order[d.span.source], d.span.start) if d.span else (0, 0))
        )


# --- The library ------------------------------------------------------------------------------------------------------


@dataclass
class LibraryFile:
    """A file of the library, bound: what it declares, and its functions."""

    declared: Declared = field(default_factory=Declared)
    functions: tuple[bound.Let, ...] = ()


_LOADED: dict[str, LibraryFile] = {}


def load(file: str, vocabulary: Vocabulary) -> LibraryFile:
    """A file of the library, bound, once. Files may use each other's operators, and the functions of one."""
    if file != library.SHARED:
        load(library.SHARED, vocabulary)
    if file not in _LOADED:
        made = _LOADED[file] = LibraryFile()
        binder = Binder(vocabulary, made.declared, file)
        own = library.items_of(file)
        shared = () if file == library.SHARED else library.items_of(library.SHARED)
        binder.declare((*[item for item in shared if isinstance(item, syntax.Let)], *own), None)
        lets = [binder.declaration(item) for item in own]
        made.functions = tuple(let for let in lets if isinstance(let, bound.Let))
        assert not binder.found, binder.found
    return _LOADED[file]


def functions_of(file: str) -> tuple[bound.Let, ...]:
    """The functions that the text of a file of the library sees."""
    return tuple(let for name in dict.fromkeys((library.SHARED, file)) for let in _LOADED[name].functions)


# --- Messages ---------------------------------------------------------------------------------------------------------


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _together(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """One word that nothing is known of is one mistake, wherever it stands."""
    out: dict[Any, Diagnostic] = {}
    for diagnostic in found:
        unknown = diagnostic.code.startswith("unknown-")
        key = (diagnostic.code, diagnostic.message if unknown else diagnostic.span)
        first = out.setdefault(key, diagnostic)
        if first is not diagnostic and diagnostic.span is not None:
            out[key] = replace(first, others=(*first.others, Label(diagnostic.span, "and here")))
    return [_shortened(d) for d in out.values()]


def _shortened(d: Diagnostic) -> Diagnostic:
    if len(d.others) <= MOST_PLACES:
        return d
    return replace(d, others=d.others[:MOST_PLACES], label=f"{d.label}, {len(d.others)} times more below")
