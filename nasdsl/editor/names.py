"""Who is who in a text: each occurrence of a name with what it stands for, and the names that hold at each place. The
binder of the compiler tells it while it binds; texts with mistakes are bound as far as they can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from nasdsl.compiler import bound, syntax
from nasdsl.compiler.bind import arguments as a
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.base import NO_NAMES, Declared, Each, Place, StepNames
from nasdsl.compiler.bind.binder import Binder
from nasdsl.compiler.bind.binder import Declaration as Bound
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.bound import SLOTS
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, NasdslError
from nasdsl.compiler.elaborate.used import Files
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.source import Source, Span
from nasdsl.editor.documentation import operator_of

Key = tuple[str, int]
"""A declaration: the file of its source, and where its name begins."""


def home(source: Source) -> str:
    """The file of a source, by however many names it was read."""
    return source.name if source.path is None else _normal(str(source.path))


@lru_cache(maxsize=1024)
def _normal(path: str) -> str:
    return os.path.realpath(path)


@dataclass(frozen=True)
class Declaration:
    """Something with a name.

    Attributes:
        kind: `space`, `operator`, `fusion`, `let`, `function`, `param`, `formal`, `label`, `loop`; of what the language
            has, `form`, `built-in` (a function), `catalogue`, `word`.
        span: of its name; None for what the language has.
        node: its text, where it has one.
        file: of the library, the name of its file.
    """

    name: str
    kind: str
    span: Span | None = None
    node: syntax.Node | None = None
    file: str = ""

    @property
    def key(self) -> Key:
        return (self.kind, -1) if self.span is None else (home(self.span.source), self.span.start)

    @property
    def is_own(self) -> bool:
        """Whether files of the user's declare it."""
        return self.span is not None and not library.inside(self.span)


@dataclass(frozen=True)
class Occurrence:
    """A name in the text, and what it stands for.

    Attributes:
        declares: whether it stands where that is declared.
        argument: the parameter that a bare name in a call gives as well: `stride` for `stride: stride`.
    """

    span: Span
    declaration: Declaration
    declares: bool = False
    argument: Declaration | None = None


@dataclass(frozen=True)
class Call:
    """A call: where it stands, what it calls, and the arguments that it gives."""

    span: Span
    declaration: Declaration
    given: tuple[str, ...]


@dataclass
class Index:
    """What is known of the names of a text.

    Attributes:
        scopes: parts of the text, the outer ones first, with the names that hold there.
        again: arguments with names in calls of values, of which only the evaluation knows whose they are.
        unclear: names in pins by which several declarations may be meant.
        declared: the definitions that the text can use, by space ("" outside of spaces).
        found: mistakes of names, of all spaces.
        problems: why files that are used can't be.
        used: by the place of a path in `use`, the file; `used_for` by a file the place of the path that leads there.
    """

    source: Source
    tree: syntax.File
    occurrences: list[Occurrence] = field(default_factory=list)
    scopes: list[tuple[int, int, Place]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    again: list[tuple[str, Span]] = field(default_factory=list)
    unclear: list[tuple[str, Span]] = field(default_factory=list)
    declared: dict[str, Declared] = field(default_factory=dict)
    found: list[Diagnostic] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    spaces: dict[str, syntax.Space | syntax.Derived] = field(default_factory=dict)
    used: dict[tuple[int, int], Path] = field(default_factory=dict)
    used_for: dict[str, tuple[int, int]] = field(default_factory=dict)
    definitions: list[syntax.Let | syntax.Operator | syntax.Fusion] = field(default_factory=list)
    files: list[Source] = field(default_factory=list)

    def at(self, offset: int) -> Occurrence | None:
        """The name at a place, also right behind it."""
        touching = [one for one in self.occurrences if one.span.start <= offset <= one.span.end]
        inside = [one for one in touching if offset < one.span.end]
        return next(iter(inside or touching), None)

    def of(self, declaration: Declaration) -> list[Occurrence]:
        """All occurrences of something, in the order of the text."""
        if declaration.span is None:
            return [one for one in self.occurrences if one.declaration == declaration]
        return [one for one in self.occurrences if one.declaration.key == declaration.key]

    def place(self, offset: int) -> Place | None:
        """The innermost scope around a place."""
        around = [scope for scope in self.scopes if scope[0] <= offset <= scope[1]]
        return min(around, key=lambda scope: scope[1] - scope[0])[2] if around else None

    def space_at(self, offset: int) -> syntax.Space | syntax.Derived | None:
        """The space in which a place lies."""
        items = (item for item in self.tree.items if isinstance(item, syntax.Space | syntax.Derived))
        return next((item for item in items if item.span.start <= offset <= item.span.end), None)

    def base_of(self, space: syntax.Space | syntax.Derived) -> syntax.Space | None:
        """The written-out space that one is made from."""
        seen: set[str] = set()
        while isinstance(space, syntax.Derived):
            if space.name.name in seen or space.base.name not in self.spaces:
                return None
            seen.add(space.name.name)
            space = self.spaces[space.base.name]
        return space

    def declared_at(self, offset: int) -> Declared:
        """The definitions that a place can use."""
        space = self.space_at(offset)
        base = self.base_of(space) if space is not None else None
        return self.declared.get(base.name.name if base is not None else "", self.declared.get("", Declared()))


def index(source: Source, tree: syntax.File) -> Index:
    """All names of a text. Nothing in it makes this fail."""
    made = Index(source, tree)
    _gather(made)
    own = [item for item in tree.items if isinstance(item, syntax.Space)]
    made.spaces.update({item.name.name: item for item in reversed(own)})
    derived = [item for item in tree.items if isinstance(item, syntax.Derived)]
    made.spaces.update({item.name.name: item for item in reversed(derived)})
    bases = [*own, *(base for item in derived if (base := made.base_of(item)) is not None)]
    bases = [base for number, base in enumerate(bases) if not any(base is one for one in bases[:number])]
    for base in bases or (None,):
        _bind(made, base, [item for item in derived if made.base_of(item) is base])
    spaces: list[syntax.Space | syntax.Derived] = [*own, *derived]
    for space in spaces:
        made.occurrences.append(Occurrence(space.name.span, _space(space), declares=True))
        if isinstance(space, syntax.Derived) and space.base.name in made.spaces:
            made.occurrences.append(Occurrence(space.base.span, _space(made.spaces[space.base.name])))
    unique = {(one.span.start, one.span.end): one for one in reversed(made.occurrences) if one.span.source is source}
    made.occurrences = sorted(unique.values(), key=lambda one: one.span.start)
    return made


def _space(item: syntax.Space | syntax.Derived) -> Declaration:
    return Declaration(item.name.name, "space", item.name.span, item)


def _gather(made: Index) -> None:
    """What the text declares outside of spaces, and what it uses."""
    source = made.source
    for item in made.tree.items:
        if not isinstance(item, syntax.Use):
            if isinstance(item, syntax.Let | syntax.Operator | syntax.Fusion):
                made.definitions.append(item)
            continue
        # A text of this one line, at its place: what it uses is found as the compiler finds it.
        start, end = item.span.start, item.span.end
        line = Source(" " * start + source.text[start:end], source.name, source.path)
        try:
            part = Files(line)
        except CompileError as problem:
            for d in problem.diagnostics:
                if d.span is None or d.span.source is line:
                    d = replace(d, span=item.path.span if d.span is None else Span(source, d.span.start, d.span.end))
                else:
                    made.used_for[home(d.span.source)] = (item.path.span.start, item.path.span.end)
                if d not in made.problems:
                    made.problems.append(d)
            continue
        except NasdslError as problem:  # of a package that offers spaces
            made.problems += [Diagnostic(one.code, one.message, item.path.span) for one in problem.diagnostics]
            continue
        made.definitions += part.definitions
        made.files += [file.source for file in part.files[1:]]
        for file in part.files[1:]:
            made.used_for.setdefault(home(file.source), (item.path.span.start, item.path.span.end))
        used = next((file.source.path for file in part.files[1:]), None)
        if used is not None:
            made.used[item.path.span.start, item.path.span.end] = used
        made.spaces.update({name: space for name, (space, _) in part.spaces.items()})
        named = {one.name.name: one for one in part.definitions}
        for word in item.names or ():
            if word.name in named:
                made.occurrences.append(Occurrence(word.span, _definition(named[word.name])))
            elif word.name in made.spaces:
                made.occurrences.append(Occurrence(word.span, _space(made.spaces[word.name])))


def _definition(item: syntax.Let | syntax.Operator | syntax.Fusion) -> Declaration:
    kind = "operator" if isinstance(item, syntax.Operator) else "fusion"
    if isinstance(item, syntax.Let):
        kind = "let" if item.formals is None else "function"
    return Declaration(item.name.name, kind, item.name.span, item)


def _bind(made: Index, base: syntax.Space | None, derived: Sequence[syntax.Derived]) -> None:
    recorder = _Recorder(made)
    recorder.declare(made.definitions, base)
    made.declared[base.name.name if base is not None else ""] = recorder.declared
    made.declared.setdefault("", recorder.declared)
    whole = (0, len(made.source.text))
    made.scopes.append((*whole, recorder.top))
    items: list[syntax.Node] = [*made.definitions, *(() if base is None else base.body)]
    recorder.items = tuple(items)
    items += [change for one in derived for change in one.changes]
    for item in items:
        try:
            recorder.declaration(item)
        except NasdslError as problem:  # a package with operators does not work
            made.problems += problem.diagnostics
    made.found += [one for one in recorder.mistakes() if one not in made.found]
    recorder.words_of_settings(items)


def declaration_of(node: syntax.Node | None, name: str) -> Declaration | None:
    """What a node of the text declares."""
    if isinstance(node, syntax.Let | syntax.Operator | syntax.Fusion):
        return _definition(node)
    if isinstance(node, syntax.Param):
        return Declaration(name, "param", node.name.span, node)
    if isinstance(node, syntax.Formal):
        return Declaration(name, "formal", node.name.span, node)
    if isinstance(node, syntax.Bind):
        start = node.span.start
        return Declaration(name, "loop", Span(node.span.source, start, start + len(node.name)), node)
    if isinstance(node, syntax.Named) and isinstance(node.key, syntax.Name):
        return Declaration(name, "label", node.key.span, node)
    return None


class _Recorder(Binder):
    """A binder that notes what each name stands for."""

    def __init__(self, made: Index):
        super().__init__(VOCABULARY, Declared())
        self.noted = made
        self.items: tuple[syntax.Node, ...] = ()
        self.several: list[tuple[Span, dict[str, list[syntax.Node]]]] = []  # names with more than one declaration

    # --- Noting ------------------------------------------------------------------------------------------------------

    def note(self, span: Span, declaration: Declaration | None, declares: bool = False) -> None:
        if declaration is not None and span.source is self.noted.source:
            self.noted.occurrences.append(Occurrence(span, declaration, declares))

    def scope(self, span: Span, place: Place) -> None:
        if span.source is self.noted.source:
            self.noted.scopes.append((span.start, span.end, place))

    def found_at(self, name: str, span: Span, place: Place) -> Declaration | None:
        """What a name stands for where it stands."""
        known, node = place.names.find(name)
        if not known:
            return None
        return declaration_of(node, name) or self.one_of_several(name, span)

    def one_of_several(self, name: str, span: Span) -> Declaration | None:
        """Of several labels or `let`s of one name in a body, the first: they are renamed together."""
        for around, names in reversed(self.several):
            if around.source is span.source and around.start <= span.start and span.end <= around.end and name in names:
                return declaration_of(names[name][0], name)
        return None

    def callable(self, name: str, span: Span, place: Place) -> Declaration | None:
        """What is called by a name, in the order of the binder."""
        declared = place.names.find(name)[1]
        if isinstance(declared, syntax.Let) and declared.formals is not None:
            return _definition(declared)
        operator = self.declared.operators.get(name)
        if operator is not None:
            return _definition(operator.text)
        file = library.OPERATORS.get(name)
        if file is not None:
            text = library.texts()[name]
            return Declaration(name, "operator", text.name.span, text, file)
        if name in self.declared.fusions:
            return _definition(self.declared.fusions[name].text)
        if name in self.vocabulary.forms:
            return Declaration(name, "form")
        if name in self.vocabulary.functions:
            return Declaration(name, "built-in")
        if not place.settings and operator_of(name) is not None:
            return Declaration(name, "catalogue")
        return self.found_at(name, span, place)

    def parameters(self, declaration: Declaration | None) -> Mapping[str, Declaration]:
        """The parameters of what is called."""
        if declaration is None:
            return {}
        node = declaration.node
        if isinstance(node, syntax.Operator | syntax.Fusion | syntax.Let):
            return {f.name.name: Declaration(f.name.name, "formal", f.name.span, f) for f in node.formals or ()}
        return {}

    # --- What the binder passes by -----------------------------------------------------------------------------------

    def declaration(self, item: syntax.Node) -> Bound | None:
        if isinstance(item, syntax.Operator | syntax.Fusion | syntax.Let | syntax.Param):
            own = declaration_of(item, item.name.name)
            self.note(item.name.span, own, declares=True)
        if isinstance(item, syntax.Operator | syntax.Fusion | syntax.Section):
            self.scope(item.span, self.top)
            self.several.append((item.span, _several(item.body)))
        if isinstance(item, syntax.Pin):
            self.pin(item)
        return super().declaration(item)

    def pin(self, item: syntax.Pin) -> None:
        """The names in a pin: a parameter, or those that paths are made of; in its value, options by name."""
        if isinstance(item.place, syntax.Name) and isinstance(self.top.names.find(item.place.name)[1], syntax.Param):
            self.note(item.place.span, self.found_at(item.place.name, item.place.span, self.top))
            return
        for node in (*walk(item.place), *walk(item.value)):
            if isinstance(node, syntax.Name) and node.span.source is self.noted.source:
                named = self.named.get(node.name, ())
                if len(named) == 1:
                    self.note(node.span, named[0])
                elif named:
                    self.noted.unclear.append((node.name, node.span))

    @cached_property
    def named(self) -> Mapping[str, tuple[Declaration, ...]]:
        """What paths are made of, by name."""
        found: dict[str, dict[Key, Declaration]] = {}
        for item in self.items:
            several = _several(item)
            for node in walk(item):
                name = _name_of(node)
                made = declaration_of(node, name) if name else None
                if name in several and isinstance(node, syntax.Let | syntax.Named):
                    made = declaration_of(several[name][0], name)
                if made is not None and made.kind != "param":
                    found.setdefault(name, {}).setdefault(made.key, made)
        return {name: tuple(ones.values()) for name, ones in found.items()}

    def value(self, node: syntax.Node, place: Place) -> bound.Expr:
        if isinstance(node, syntax.Name):
            return self.name(node, place)
        if isinstance(node, syntax.Comprehension):
            return self.comprehension(node, place)
        if isinstance(node, syntax.Field):
            return self.field(node, place)
        if isinstance(node, syntax.Block):
            self.scope(node.span, place)
        return super().value(node, place)

    def name(self, node: syntax.Name, place: Place) -> bound.Expr:
        self.note(node.span, self.found_at(node.name, node.span, place))
        return super().name(node, place)

    def step(self, node: syntax.Node, place: Place, names: StepNames = NO_NAMES) -> bound.Expr:
        made = super().step(node, place, names)
        if isinstance(node, syntax.For):
            self.note_bind(node.bind)
            self.scope(node.body.span, place.inside({node.bind.name: node.bind}))
        elif isinstance(node, syntax.Repeat):
            self.scope(node.body.span, place.inside({"first": None}))
        return made

    def note_bind(self, bind: syntax.Bind) -> None:
        made = declaration_of(bind, bind.name)
        if made is not None and made.span is not None:
            self.note(made.span, made, declares=True)

    def comprehension(self, node: syntax.Comprehension, place: Place) -> bound.Expr:
        inner = place
        for bind in node.binds:
            self.note_bind(bind)
            inner = inner.inside({bind.name: bind})
        self.scope(node.span, inner)
        return super().comprehension(node, place)

    def item(self, item: syntax.Item, place: Place, names: StepNames) -> bound.Item:
        if isinstance(item, syntax.Let):
            self.note(item.name.span, self.at_declaration(item, item.name), declares=True)
        elif isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
            self.note(item.key.span, self.at_declaration(item, item.key), declares=True)
        return super().item(item, place, names)

    def at_declaration(self, node: syntax.Node, name: syntax.Name) -> Declaration | None:
        """What a label or a `let` in a body declares; the first of its name where there are several."""
        return self.one_of_several(name.name, name.span) or declaration_of(node, name.name)

    def body(self, node: syntax.Block, place: Place) -> bound.Body:
        self.scope(node.span, place)
        return super().body(node, place)

    def let(self, item: syntax.Let, place: Place) -> bound.Let:
        self.scope(item.span, place)
        return super().let(item, place)

    def formals(self, formals: tuple[syntax.Formal, ...], place: Place) -> tuple[tuple[bound.Formal, ...], Place]:
        for formal in formals:
            self.note(formal.name.span, declaration_of(formal, formal.name.name), declares=True)
        made, inner = super().formals(formals, place)
        for formal in formals:
            self.scope(formal.span, inner)
        return made, inner

    def fusion(self, item: syntax.Fusion) -> None:
        for entry in item.body.items:
            if isinstance(entry, syntax.Let):
                self.note(entry.name.span, declaration_of(entry, entry.name.name), declares=True)
        super().fusion(item)

    def alone(self, node: syntax.Node, place: Place) -> bound.Expr:
        self.scope(node.span, place)
        return super().alone(node, place)

    def call(self, node: syntax.Call, place: Place, step: str = "", each: Each | None = None) -> bound.Expr:
        called = self.callable(node.function.name, node.function.span, place)
        self.note(node.function.span, called)
        self.arguments_of(node, called, place)
        made = super().call(node, place, step, each)
        if isinstance(made, bound.Again):
            keys = [key for item in node.arguments or () if (key := _key_of(item)) is not None]
            self.noted.again += [(key.name, key.span) for key in keys]
        return made

    def rule(self, node: syntax.Node, place: Place) -> bound.Expr:
        word = node.function if isinstance(node, syntax.Call) else node
        fusion = self.declared.fusions.get(word.name) if isinstance(word, syntax.Name) else None
        if fusion is not None and isinstance(word, syntax.Name):
            self.note(word.span, _definition(fusion.text))
            if isinstance(node, syntax.Call):
                self.arguments_of(node, _definition(fusion.text), place)
        return super().rule(node, place)

    def arguments_of(self, node: syntax.Call, called: Declaration | None, place: Place) -> None:
        """Notes the names of the arguments, and bare names that give the parameter of their name."""
        if node.span.source is not self.noted.source or called is None:
            return
        given, _ = a.given_in(node.arguments or (), "")
        params = self.parameters(called)
        names: tuple[str, ...] = tuple(params)
        if called.kind == "catalogue":
            operator = operator_of(called.name)
            names = tuple(p.name for p in operator.params) if operator is not None else ()
        elif called.kind == "form":
            names = tuple(p.name for p in self.vocabulary.forms[called.name].parameters)
        keys: list[str] = []
        positional = called.kind in ("function", "built-in")
        for position, one in enumerate(given):
            if one.key:
                keys.append(one.key)
                self.note(one.place, params.get(one.key) or self.parameter(called, one.key, names))
            elif position == 0 or positional:
                keys += names[position : position + 1]
            elif one.word in names:
                keys.append(one.word)
                meant = self.found_at(one.word, one.place, place)
                param = params.get(one.word) or self.parameter(called, one.word, names)
                if meant is not None and one.place.source is self.noted.source:
                    self.noted.occurrences.append(Occurrence(one.place, meant, argument=param))
        self.noted.calls.append(Call(node.span, called, tuple(keys)))

    def parameter(self, called: Declaration, name: str, names: tuple[str, ...]) -> Declaration | None:
        """A parameter of an operator or a form of the language."""
        return Declaration(f"{called.name}.{name}", "parameter") if name in names else None

    def field(self, node: syntax.Field, place: Place) -> bound.Expr:
        base = node.base
        if isinstance(base, syntax.Name) and base.name not in place.names:
            definition = self.declared.operators.get(base.name) or self.declared.fusions.get(base.name)
            if definition is not None:
                self.note(base.span, _definition(definition.text))
                for one in walk(definition.text):
                    if isinstance(one, syntax.Let) and one.name.name == node.name.name:
                        self.note(node.name.span, _definition(one))
                        break
        return super().field(node, place)

    def previous(self, node: syntax.Call, function: bound.Function, place: Place, step: str) -> bound.Expr:
        first = (node.arguments or (None,))[0]
        if isinstance(first, syntax.Name):
            self.note(first.span, self.found_at(first.name, first.span, place))
        return super().previous(node, function, place, step)

    def slots(self, item: syntax.Section, place: Place) -> tuple[bound.Entry, ...]:
        for slot in item.body.items:
            if isinstance(slot, syntax.Named) and isinstance(slot.key, syntax.Name) and slot.key.name in SLOTS:
                self.note(slot.key.span, Declaration(slot.key.name, "word"))
        return super().slots(item, place)

    # --- Words in settings --------------------------------------------------------------------------------------------

    def words_of_settings(self, items: Iterable[syntax.Node]) -> None:
        """Words in settings that name a part of the network: `freeze: [backbone]`."""
        items = list(items)
        networks = [item for item in items if isinstance(item, syntax.Section) and item.kind.name == "network"]
        labels: dict[str, Declaration] = {}
        for section in networks:
            for item in section.body.items:
                key = _key_of(item)
                made = declaration_of(item, key.name) if key is not None else None
                if made is not None:
                    labels.setdefault(made.name, made)
        settings = [item for item in items if isinstance(item, syntax.Section)]
        for section in settings:
            if section.kind.name in ("search", "train"):
                for node in walk(section.body):
                    if isinstance(node, syntax.Name) and node.name in labels and node.span.source is self.noted.source:
                        self.note(node.span, labels[node.name])


def _name_of(node: syntax.Node) -> str:
    """The name that a node declares, if it does."""
    if isinstance(node, syntax.Let | syntax.Operator | syntax.Fusion | syntax.Formal):
        return node.name.name
    if isinstance(node, syntax.Bind):
        return node.name
    key = _key_of(node)
    return "" if key is None else key.name


def _key_of(item: syntax.Node) -> syntax.Name | None:
    """The word in front of a colon."""
    return item.key if isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name) else None


def _several(body: syntax.Node) -> dict[str, list[syntax.Node]]:
    """Labels and `let`s of a body that stand there more than once, in the order of the text."""
    found: dict[str, list[syntax.Node]] = {}
    arguments: set[int] = set()
    for node in sorted(walk(body), key=lambda node: (node.span.start, -node.span.end)):
        if isinstance(node, syntax.Call):
            arguments |= {id(item) for item in node.arguments or ()}
        if isinstance(node, syntax.Let):
            found.setdefault(node.name.name, []).append(node)
        elif isinstance(node, syntax.Named) and isinstance(node.key, syntax.Name) and id(node) not in arguments:
            found.setdefault(node.key.name, []).append(node)
    return {name: nodes for name, nodes in found.items() if len(nodes) > 1}
