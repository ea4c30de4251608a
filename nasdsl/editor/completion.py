"""What may be typed at a place: names in scope, operators, arguments, words, settings, paths of decisions, files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdsl import spaces
from nasdsl.compiler import ops, syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.binder import ENTRIES, SECTIONS, SOURCES
from nasdsl.compiler.bind.values import values_of
from nasdsl.compiler.bind.walk import bound_in
from nasdsl.compiler.bound import SLOTS
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.ops.operator import REQUIRED
from nasdsl.editor import documentation
from nasdsl.editor.context import Context, Open, context
from nasdsl.editor.document import Document
from nasdsl.editor.facts import Facts
from nasdsl.editor.names import Declaration, declaration_of
from nasdsl.editor.setting_words import Setting
from nasdsl.editor.words import words


@dataclass(frozen=True)
class Item:
    """One proposal.

    Attributes:
        kind: `operator`, `form`, `function`, `value`, `param`, `label`, `argument`, `keyword`, `word`, `section`,
            `setting`, `space`, `fusion`, `path`, `file`, `field`.
        insert: what is put in, with `$0` where the cursor goes; the label where empty.
        detail: how it is written, or its value; `doc` asks for more, as Markdown.
        rank: smaller ones come first.
    """

    label: str
    kind: str
    detail: str = ""
    insert: str = ""
    rank: int = 5
    doc: str = ""


@dataclass(frozen=True)
class Proposals:
    """What may stand from `start` to the cursor."""

    start: int
    items: tuple[Item, ...]


Settings = Mapping[str, Setting]
"""By the name of a search, or `train`: its settings."""

DECLARE = {
    "param": "param $0",
    "input": "input 3 x $0",
    "let": "let $0",
    "operator": "operator $0",
    "fusion": "fusion $0",
    "require": "require $0",
}
TOP = {
    "space": "space $0",
    "use": 'use "$0"',
    "let": "let $0",
    "operator": "operator $0",
    "fusion": "fusion $0",
}
STEPS = {"let": "let $0", "require": "require $0", "for": "for $0", "repeat": "repeat $0", "match": "match $0"}
_INFIX = {
    "+",
    "-",
    "*",
    "/",
    "^",
    "COMPARE",
    "..",
    "and",
    "or",
    "implies",
    "=",
    "in",
    "if",
    "not",
    "else",
    "x",
    "require",
}


def complete(
    document: Document, offset: int, known: Sequence[Facts] = (), settings: Settings | None = None
) -> Proposals:
    """The proposals for a place.

    Args:
        known: what the last elaborations of the file's spaces found, for the paths of decisions.
        settings: of searches and of training.
    """
    tokens = document.tokens
    here = context(document.text, tokens.tokens, tokens.comments, offset)
    if here.comment:
        return Proposals(offset, ())
    asking = _Asking(document, offset, here, known, settings or {})
    unique: dict[str, Item] = {}
    for item in asking.all():
        unique.setdefault(item.label, item)
    return Proposals(here.start, tuple(sorted(unique.values(), key=lambda item: (item.rank, item.label.lower()))))


@dataclass(frozen=True)
class _Asking:
    document: Document
    offset: int
    here: Context
    known: Sequence[Facts]
    settings: Settings

    def all(self) -> Iterator[Item]:
        here, role = self.here, self.here.at.role
        if here.quoted:
            yield from self.files()
            return
        if here.before == ".":
            yield from self.fields()
            return
        if here.before in ("let", "operator", "fusion", "param", "for", "space", "NUMBER"):
            return  # a new name is typed, or a unit
        if here.before == "use" or (here.item and here.item[0].kind == "use" and role == "top"):
            return
        yield from _ROLES.get(role, _Asking.values)(self)

    # --- By what surrounds the cursor --------------------------------------------------------------------------------

    def top(self) -> Iterator[Item]:
        item = self.here.item
        kinds = [token.kind for token in item]
        if not item:
            yield from _keywords(TOP)
        elif kinds[0] == "space":
            yield from self.of_a_space(kinds)
        elif kinds[0] in ("let", "operator") and "=" in kinds:
            yield from self.values() if kinds[0] == "let" else self.steps()

    def of_a_space(self, kinds: Sequence[str]) -> Iterator[Item]:
        if kinds[-1] == "=":
            yield from (Item(name, "space", rank=1) for name in self.document.names.spaces)
        elif "=" in kinds:
            yield Item("with", "keyword", insert="with {\n  $0\n}", rank=1)

    def space(self) -> Iterator[Item]:
        item = self.here.item
        if not item:
            yield from _keywords(DECLARE)
            yield from _sections(SECTIONS)
        elif len(item) == 1 and item[0].text == "search":
            yield from (Item(name, "word", rank=1) for name in self.settings if name != "train")
        elif item[0].kind == "operator" and self.here.before == "=":
            yield from self.steps()
        elif item[0].kind == "param" and len(item) == 2:
            yield Item("in", "keyword", "one of some values", "in [$0]", 1)
        elif item[0].kind != "NAME":
            yield from self.values()

    def changes(self) -> Iterator[Item]:
        """What stands in the braces behind `with`."""
        item = self.here.item
        if item and any(token.kind == ":" for token in item):
            yield from self.pinned()
            return
        if item and item[0].kind in ("input", "require"):
            yield from self.values()
            return
        base = self.base()
        for one in base.body if base is not None else ():
            if isinstance(one, syntax.Param):
                yield Item(one.name.name, "param", _text(one.value), f"{one.name.name}: $0", 1)
        for path, options in self.paths():
            yield Item(path, "path", " | ".join(options[:6]), f"{path}: $0", 3)
        yield from _keywords({"input": "input 3 x $0", "require": "require $0"})
        yield from _sections(("search", "train", "published"))

    def base(self) -> syntax.Space | None:
        space = self.document.names.space_at(self.offset)
        if space is None:
            opened = self.here.role("with")
            space = self.document.names.spaces.get(opened.name) if opened is not None else None
        return None if space is None else self.document.names.base_of(space)

    def paths(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        base = self.base()
        wanted = {base.name.name if base is not None else "", *self.document.names.spaces}
        first = next((one for one in self.known if base is not None and one.space.name == base.name.name), None)
        for one in [first] if first is not None else [one for one in self.known if one.space.name in wanted]:
            yield from one.paths

    def pinned(self) -> Iterator[Item]:
        """The values of the decision, or of the parameter, whose place stands before the colon."""
        start = self.here.item[0].start
        place = re.sub(r"\s", "", self.document.text[start : self.here.start]).rstrip(":")
        base = self.base()
        for one in base.body if base is not None else ():
            if isinstance(one, syntax.Param) and one.name.name == place:
                yield from _alternatives(one)
        for path, options in self.paths():
            if path == place or _plain(path) == place or path.endswith(f".{place}"):
                yield from (Item(option, "value", rank=1) for option in options)
        yield from _keywords({"oneof": "oneof($0)"})

    def fusion(self) -> Iterator[Item]:
        item = self.here.item
        if not item:
            entries = [word for word in ENTRIES if word not in self.here.at.given]
            yield from (_word(word, "argument", f"{word}: $0", 1) for word in entries)
            yield from _keywords({"let": "let $0"})
        elif item[0].text == "from":
            yield from (Item(word, "word", rank=1) for word in SOURCES)
        elif item[0].kind == "let":
            yield from self.values()
        else:
            yield from self.steps()

    def detector(self) -> Iterator[Item]:
        if not self.here.item:
            slots = [word for word in SLOTS if word not in self.here.at.given]
            yield from (_word(word, "argument", f"{word}: $0", 1) for word in slots)
        else:
            yield from self.steps()

    def match(self) -> Iterator[Item]:
        """The alternatives that are missing; behind a colon whatever one may be."""
        opened, item = self.here.at, self.here.item
        if any(token.kind == ":" for token in item):
            outer = self.here.inside[-2] if len(self.here.inside) > 1 else opened
            is_value = any(token.kind in ("=", "(", ":") for token in outer.item) or outer.role in ("space", "call")
            if not is_value:
                yield from self.steps()
            yield from self.values()
            return
        if len(opened.head) == 1:
            declared = self.declared(opened.head[0].text)
            missing = [one for one in _alternatives(declared) if one.label not in opened.given]
            yield from (Item(one.label, one.kind, one.detail, f"{one.label}: $0", 1) for one in missing)
        yield Item("else", "keyword", "whatever is left", "else: $0", 4)

    def declared(self, name: str) -> syntax.Node | None:
        place = self.document.names.place(self.offset)
        return None if place is None else place.names.find(name)[1]

    def body(self) -> Iterator[Item]:
        kinds = [token.kind for token in self.here.item]
        if kinds[:1] == ["let"] or (kinds[:1] == ["require"]):
            yield from self.values()
        elif {"for", "repeat", "match"} & set(kinds):
            yield from self.head(kinds)
        elif kinds[-1:] and kinds[-1] in _INFIX - {"+", "=", "else"}:
            yield from self.values()
        else:
            yield from self.steps()

    def head(self, kinds: Sequence[str]) -> Iterator[Item]:
        """Between `for`, `repeat` or `match` and the block."""
        if kinds[0] == "for" and len(kinds) == 2:
            yield Item("in", "keyword", insert="in $0", rank=1)
        else:
            yield from self.values()

    def call(self) -> Iterator[Item]:
        """Arguments with names, then values."""
        opened, item = self.here.at, self.here.item
        fusion = opened.name == "fuse" and not item and opened.count == 0
        if fusion:
            yield from self.fusions()
        named = [token.text for token in item[:2]] if len(item) >= 2 and item[1].kind == ":" else []
        if named:
            yield from self.words_for(opened.name, named[0])
        elif not item:
            yield from self.arguments(opened)
        yield from self.values(steps=self.takes_steps(opened, named))

    def takes_steps(self, opened: Open, named: Sequence[str]) -> bool:
        """Whether an argument may be an operator."""
        form = VOCABULARY.forms.get(opened.name)
        if form is not None:
            role = next((p.role for p in form.parameters if named and p.name == named[0]), form.rest)
            return role == "step"
        return opened.name not in ops.CATALOGUE

    def arguments(self, opened: Open) -> Iterator[Item]:
        """The parameters that a call does not give yet."""
        given = set(opened.given)
        for name, detail, doc in self.parameters(opened.name):
            if name not in given:
                yield Item(name, "argument", detail, f"{name}: $0", 2, doc)

    def parameters(self, called: str) -> Iterator[tuple[str, str, str]]:
        """The parameters of what is called: name, default, and what it means."""
        node = self.callee(called)
        if isinstance(node, syntax.Operator | syntax.Fusion | syntax.Let):
            for formal in node.formals or ():
                yield formal.name.name, _text(formal), ""
        elif called in VOCABULARY.forms:
            for p in VOCABULARY.forms[called].parameters:
                yield p.name, "", p.doc
        elif called not in VOCABULARY.functions and (operator := ops.CATALOGUE.get(called)) is not None:
            for param in operator.params:
                kind = " | ".join(param.choices) if param.choices else param.type
                yield param.name, kind if param.default is not REQUIRED else f"{kind}, needed", param.doc

    def callee(self, called: str) -> syntax.Node | None:
        names = self.document.names
        declared = names.declared_at(self.offset)
        if called in declared.operators:
            return declared.operators[called].text
        if called in declared.fusions:
            return declared.fusions[called].text
        if called in library.OPERATORS:
            return library.texts()[called]
        node = self.declared(called)
        return node if isinstance(node, syntax.Let) and node.formals is not None else None

    def words_for(self, called: str, parameter: str) -> Iterator[Item]:
        """Words that an argument may be."""
        operator = None if self.callee(called) is not None else ops.CATALOGUE.get(called)
        param = operator.param(parameter) if operator is not None else None
        if param is not None:
            yield from (Item(word, "word", rank=0) for word in param.choices)
            if param.type == "bool":
                yield from (Item(word, "word", rank=0) for word in ("true", "false"))
        node = self.callee(called)
        if isinstance(node, syntax.Operator | syntax.Fusion | syntax.Let):
            formal = next((one for one in node.formals or () if one.name.name == parameter), None)
            if formal is not None and isinstance(formal.allowed, syntax.List):
                yield from (Item(_text(one), "value", rank=0) for one in formal.allowed.items)

    # --- Settings ----------------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Item]:
        """Settings of a search or of training; behind a colon the words that one may be."""
        setting = self.setting()
        item = self.here.item
        if len(item) >= 2 and item[1].kind == ":":
            found = setting.parts.get(item[0].text) if setting is not None else None
            if found is not None:
                yield from (Item(word, "word", rank=0) for word in found.words)
                if found.parts:
                    yield Item("{ }", "keyword", insert="{ $0 }", rank=2)
            yield from self.values(steps=False)
            return
        for name, one in (setting.parts if setting is not None else {}).items():
            if name not in self.here.at.given:
                insert = f"{name}: {{ $0 }}" if one.parts and not one.words else f"{name}: $0"
                yield Item(name, "setting", one.detail, insert, 1, one.doc)

    def setting(self) -> Setting | None:
        """The setting whose entries are typed."""
        path: list[str] = []
        for opened in reversed(self.here.inside):
            if opened.role == "settings":
                kind = opened.head[0].text if opened.head else opened.name
                found = self.settings.get(kind)
                for name in reversed(path):
                    found = found.parts.get(name) if found is not None else None
                return found
            path.append(opened.name)
        return None

    def defaults(self) -> Iterator[Item]:
        item = self.here.item
        if not item:
            params = {p.name: p for operator in ops.CATALOGUE.values() for p in operator.params}
            yield from (Item(name, "argument", p.type, f"{name}: $0", 1, p.doc) for name, p in params.items())
        else:
            choices = (p.choices for op in ops.CATALOGUE.values() for p in op.params if p.name == item[0].text)
            yield from (
                Item(word, "word", rank=0) for word in dict.fromkeys(word for found in choices for word in found)
            )
            yield from self.values(steps=False)

    # --- Names -------------------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Item]:
        """What may stand in a body: operators, names of tensors, text that is run."""
        if not self.here.item:
            yield from _keywords(STEPS)
        else:
            yield from _keywords({"match": "match $0", "for": "for $0", "repeat": "repeat $0"})
        yield from self.operators()
        yield from self.scope()
        yield from (_call(word, "function", 6) for word in ("oneof", "manyof", "permute"))
        yield Item("none", "word", documentation.brief("none"), rank=6)

    def operators(self) -> Iterator[Item]:
        declared = self.document.names.declared_at(self.offset)
        for name, operator in declared.operators.items():
            yield _of_text(name, "operator", operator.text, 2)
        for name in library.OPERATORS:
            if name not in declared.operators:
                yield _of_text(name, "operator", library.texts()[name], 4)
        yield from (_call(name, "form", 4) for name in VOCABULARY.forms)
        yield from (_call(name, "operator", 4) for name in (*ops.CATALOGUE, *_of_packages()))

    def fusions(self) -> Iterator[Item]:
        for name, fusion in self.document.names.declared_at(self.offset).fusions.items():
            insert = f"{name}($0)" if fusion.text.formals else name
            yield Item(name, "fusion", documentation.of_text(fusion.text).signature, insert, 1)

    def scope(self) -> Iterator[Item]:
        """The names that hold here."""
        place = self.document.names.place(self.offset)
        if place is None:
            return
        for rank, (name, node) in enumerate(self.in_scope()):
            declaration = declaration_of(node, name)
            kind = declaration.kind if declaration is not None else "value"
            insert = f"{name}($0)" if kind == "function" else ""
            yield Item(name, _KINDS.get(kind, "value"), _detail(declaration), insert, 1 + min(rank // 40, 2))

    def in_scope(self) -> Iterator[tuple[str, syntax.Node | None]]:
        place = self.document.names.place(self.offset)
        scope = place.names if place is not None else None
        seen: set[str] = set()
        while scope is not None:
            for name, node in scope.names.items():
                if name not in seen:
                    seen.add(name)
                    yield name, node
            scope = scope.outer

    def values(self, steps: bool = True) -> Iterator[Item]:
        """What an expression may begin with."""
        yield from self.scope()
        yield from (_call(word, "function", 3) for word in VOCABULARY.functions)
        ambient = [word for word in words()["ambient"] if word != "branches"]
        yield from (_word(word, "word", "", 4) for word in (*words()["constant"], *ambient))
        yield from (_word(word, "word", "", 6) for word in words()["measure"])
        yield from _keywords({"match": "match $0", "not": "not $0"})
        declared = self.document.names.declared_at(self.offset)
        if steps:
            yield from self.operators()
        else:
            yield from (_of_text(name, "operator", one.text, 6) for name, one in declared.operators.items())

    def fields(self) -> Iterator[Item]:
        """What may follow a dot."""
        item = self.here.item
        if self.here.at.role == "with":
            start = item[0].start
            before = re.sub(r"\s", "", self.document.text[start : self.here.start])
            for path, options in self.paths():
                if path.startswith(before):
                    rest = path[len(before) :]
                    yield Item(rest, "path", " | ".join(options[:6]), f"{rest}: $0", 2)
            return
        owner = item[-2].text if len(item) > 1 else ""
        declared = self.document.names.declared_at(self.offset)
        found = declared.operators.get(owner) or declared.fusions.get(owner)
        if found is not None:
            yield from (Item(name, "field", rank=1) for name in values_of(found.text))
        else:
            yield Item("width", "field", "the channels of a tensor", rank=2)
            yield Item("scale", "field", "the scale of a tensor", rank=2)
        node = self.declared(owner)
        if isinstance(node, syntax.Named):
            yield from (Item(name, "field", rank=2) for name in bound_in([node.value]))

    # --- Files -------------------------------------------------------------------------------------------------------

    def files(self) -> Iterator[Item]:
        """Files that `use` may name: those beside this one, and those that ship."""
        if not self.here.item or self.here.item[0].kind != "use":
            return
        path, typed = self.document.path, self.here.word
        if path is not None:
            folder = path.parent / typed.rpartition("/")[0]
            yield from self.beside(folder, path)
        if "/" not in typed:
            yield from (Item(f"{name}.space", "file", "ships with nasdsl", rank=3) for name in spaces.names())

    def beside(self, folder: Path, path: Path) -> Iterator[Item]:
        prefix = self.here.word.rpartition("/")
        before = f"{prefix[0]}/" if prefix[1] else ""
        try:
            found = sorted(folder.iterdir())[:500]
        except OSError:
            return
        for one in found:
            if one.suffix == ".space" and one != path:
                yield Item(f"{before}{one.name}", "file", rank=1)
            elif one.is_dir() and not one.name.startswith("."):
                yield Item(f"{before}{one.name}/", "file", rank=4)


_ROLES: Mapping[str, Callable[[_Asking], Iterator[Item]]] = {
    "top": _Asking.top,
    "space": _Asking.space,
    "with": _Asking.changes,
    "fusion": _Asking.fusion,
    "detector": _Asking.detector,
    "match": _Asking.match,
    "body": _Asking.body,
    "braces": _Asking.body,
    "call": _Asking.call,
    "settings": _Asking.entries,
    "record": _Asking.entries,
    "defaults": _Asking.defaults,
    "names": lambda self: iter(()),
}

_KINDS = {"param": "param", "label": "label", "function": "function", "operator": "operator", "formal": "param"}


def _of_packages() -> Iterable[str]:
    """Operators of installed packages; none where one does not work."""
    try:
        return ops.plugins()
    except NasdslError:
        return ()


def _detail(declaration: Declaration | None) -> str:
    node = declaration.node if declaration is not None else None
    if isinstance(node, syntax.Let):
        return documentation.of_text(node).signature
    if isinstance(node, syntax.Param):
        return f"param {node.name.name} {'in' if node.choices else '='} {_text(node.value)}"
    return "" if node is None else _text(node)


def _text(node: syntax.Node, most: int = 60) -> str:
    text = " ".join(node.span.text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plain(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", path)


def _alternatives(node: syntax.Node | None) -> Iterator[Item]:
    """The words that a parameter or a decided name may be."""
    items: Sequence[syntax.Node] = ()
    if isinstance(node, syntax.Param) and node.choices and isinstance(node.value, syntax.List):
        items = node.value.items
    elif isinstance(node, syntax.Let) and isinstance(node.value, syntax.Call) and node.value.function.name == "oneof":
        items = [one.key if isinstance(one, syntax.Named) else one for one in node.value.arguments or ()]
    elif isinstance(node, syntax.Formal) and isinstance(node.allowed, syntax.List):
        items = node.allowed.items
    for item in items:
        yield Item(_text(item), "value", rank=1)


def _keywords(inserts: Mapping[str, str]) -> Iterable[Item]:
    return [Item(word, "keyword", documentation.brief(word), text, 5) for word, text in inserts.items()]


def _sections(names: Iterable[str]) -> Iterator[Item]:
    for name in names:
        insert = "search $0" if name == "search" else f"{name} {{\n  $0\n}}"
        yield Item(name, "section", documentation.brief(name), insert, 5)


def _word(word: str, kind: str, insert: str, rank: int) -> Item:
    return Item(word, kind, documentation.brief(word), insert, rank)


def _call(word: str, kind: str, rank: int) -> Item:
    """A word of the language that is called."""
    insert = f"{word}($0)"
    if word in VOCABULARY.forms and VOCABULARY.forms[word].body and kind == "form":
        insert = f"{word} {{ $0 }}"
    return Item(word, kind, "", insert, rank)


def _of_text(name: str, kind: str, node: syntax.Operator, rank: int) -> Item:
    return Item(name, kind, documentation.of_text(node).signature.removeprefix("operator "), f"{name}($0)", rank)


def documented(label: str, kind: str) -> str:
    """What an editor shows of a proposal that it asks more about, as Markdown."""
    told = documentation.of_call(label) if kind in ("operator", "form", "function") else documentation.of_word(label)
    return "" if told is None else told.markdown


@dataclass(frozen=True)
class Signature:
    """How what is called around a place is written, its parameters with what they mean, and which one is typed."""

    signature: str
    parameters: tuple[tuple[str, str], ...]
    active: int | None
    doc: str = ""


def parameters_at(document: Document, offset: int) -> Signature | None:
    """The call around a place; None where there is none."""
    tokens = document.tokens
    here = context(document.text, tokens.tokens, tokens.comments, offset)
    opened = here.at
    if opened.role != "call" or here.comment or here.quoted:
        return None
    asking = _Asking(document, offset, here, (), {})
    node = asking.callee(opened.name)
    if isinstance(node, syntax.Operator | syntax.Fusion | syntax.Let):
        told = documentation.of_text(node)
    elif (found := documentation.of_call(opened.name)) is not None:
        told = found
    else:
        return None
    parameters = tuple((name, doc) for name, _, doc in asking.parameters(opened.name))
    names = [name for name, _ in parameters]
    typed = opened.item[0].text if len(opened.item) >= 2 and opened.item[1].kind == ":" else ""
    active = names.index(typed) if typed in names else 0 if opened.count == 0 and names else None
    return Signature(told.signature.split("\n")[0], parameters, active, documentation.sentence(told.text))
