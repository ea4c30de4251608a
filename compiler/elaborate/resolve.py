"""What the names alone tell: every mistake of a name in the text, also where the current parameters don't lead.

Nothing is evaluated here. A bare word that is no name is a symbol, so that only a word in the place of a number, of a
condition's number or of a step can be wrong; scopes are taken a little too wide (a label holds in its whole body), so
that nothing correct is reported. What needs values is left to the evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, cast

from nasdsl.compiler import measures, ops, syntax
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate.arguments import (
    body_problems,
    formals_of,
    match_arguments,
    parameters_of,
    with_shared,
    without_body,
)
from nasdsl.compiler.elaborate.expressions import BUILT_IN_NAMES, FORMS
from nasdsl.compiler.elaborate.forms import ENTRIES, SOURCES
from nasdsl.compiler.elaborate.functions import FUNCTIONS, check_call, numbers_of
from nasdsl.compiler.elaborate.habits import near, near_argument, near_operator
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.ops.operator import Operator
from nasdsl.compiler.source import Span

SLOTS = ("backbone", "neck", "proposals", "head")
NETWORKS = ("network", "detector")
SECTIONS = (*NETWORKS, "defaults", "published", "search", "train")
"""Sections with a known reader. Others are kept for whoever wants them, unless they look like one of these."""

WORDS_OF_A_BODY = ("earlier", "unused", "at", "branches", "none", "regions", *BUILT_IN_NAMES)
_NUMBERS = ("int", "positive", "odd", "number", "bool", "width", "scale", "widths", "list")
"""Types of parameters for which a symbol will not do."""

Definition = syntax.Let | syntax.Operator | syntax.Fusion


def resolve(definitions: Sequence[Definition], space: syntax.Space, changes: Iterable[syntax.Node]) -> list[Diagnostic]:
    """Every mistake of a name in a space, in what it uses and in what `with` changes, in the order of the text."""
    return _Resolver(definitions, space).run(changes)


def misspelt(section: syntax.Section) -> bool:
    """Whether a section's name looks like a mistake for a known one."""
    return section.kind.name not in SECTIONS and near(section.kind.name, SECTIONS) != ""


class _Names:
    """The names that hold at a place, each with what it stands for where the text says so plainly (else None)."""

    def __init__(self, outer: _Names | None = None, names: Mapping[str, syntax.Node | None] | None = None):
        self.outer = outer
        self.names = dict(names or {})

    def find(self, name: str) -> tuple[bool, syntax.Node | None]:
        scope: _Names | None = self
        while scope is not None:
            if name in scope.names:
                return True, scope.names[name]
            scope = scope.outer
        return False, None

    def __contains__(self, name: str) -> bool:
        return self.find(name)[0]

    def __iter__(self) -> Iterator[str]:
        scope: _Names | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.outer


@dataclass(frozen=True)
class _Context:
    """Where a node stands: `made` are the values of the operator or fusion around it that `previous` may ask for."""

    names: _Names
    settings: bool = False
    made: tuple[str, ...] | None = None

    def inside(self, names: Mapping[str, syntax.Node | None]) -> _Context:
        return replace(self, names=_Names(self.names, names))


@cache
def _parts(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name not in ("span", "operator_span"))


def children(node: syntax.Node) -> Iterator[Any]:
    for name in _parts(cast(Any, type(node))):
        part = getattr(node, name)
        for child in part if isinstance(part, tuple) else (part,):
            if isinstance(child, syntax.Node):
                yield child


def walk(node: syntax.Node) -> Iterator[syntax.Node]:
    queue = [node]
    while queue:
        node = queue.pop()
        yield node
        queue.extend(children(node))


def bound_in(body: Iterable[syntax.Node]) -> dict[str, syntax.Node | None]:
    """Lets and labels anywhere in a body. One that stands there twice may be either."""
    out: dict[str, syntax.Node | None] = {}
    queue = list(body)
    while queue:
        node = queue.pop()
        name = ""
        if isinstance(node, syntax.Let):
            name = node.name.name
        elif isinstance(node, syntax.Named) and isinstance(node.key, syntax.Name):
            name = node.key.name
        if name:
            out[name] = node if isinstance(node, syntax.Let) and name not in out else None
        if isinstance(node, syntax.Call):  # its arguments are no labels, what they hold may have some
            queue.extend(item.value if isinstance(item, syntax.Named) else item for item in node.arguments or ())
            if node.body is not None:
                queue.append(node.body)
        else:
            queue.extend(children(node))
    return out


def _together(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """One word that nothing is known of is one mistake, wherever it stands."""
    out: dict[Any, Diagnostic] = {}
    for diagnostic in found:
        key = (
            (diagnostic.code, diagnostic.message)
            if diagnostic.code.startswith("unknown-")
            else (diagnostic.code, diagnostic.span)
        )
        first = out.setdefault(key, diagnostic)
        if first is not diagnostic and diagnostic.span is not None:
            out[key] = replace(first, others=(*first.others, Label(diagnostic.span, "and here")))
    return [
        d
        if len(d.others) <= MOST_PLACES
        else replace(d, others=d.others[:MOST_PLACES], label=f"{d.label}, {len(d.others)} times more below")
        for d in out.values()
    ]


MOST_PLACES = 3
MOST_FOUND = 200
"""Mistakes of names after which a file is taken for something else."""


class _Resolver:
    def __init__(self, definitions: Sequence[Definition], space: syntax.Space):
        self.definitions, self.space = definitions, space
        self.found: list[Diagnostic] = []
        self.operators: dict[str, syntax.Operator] = {}
        self.fusions: dict[str, syntax.Fusion] = {}
        names: dict[str, syntax.Node | None] = {}
        declared: dict[str, tuple[str, Span]] = {}
        for item in (*definitions, *space.body):
            if not isinstance(item, syntax.Let | syntax.Operator | syntax.Fusion | syntax.Param):
                continue
            name = item.name.name
            kind = "value" if isinstance(item, syntax.Let | syntax.Param) else "operator"
            before = declared.get(f"{kind} {name}")
            if before is not None and (
                kind == "operator" or (item in space.body and before[1].source is item.span.source)
            ):
                where = Label(before[1], "here first")
                self.report("duplicate", f"`{name}` is defined twice", item.name.span, others=(where,))
                continue
            declared[f"{kind} {name}"] = (name, item.name.span)
            if isinstance(item, syntax.Operator):
                self.operators[name] = item
            elif isinstance(item, syntax.Fusion):
                self.fusions[name] = item
            else:
                names[name] = item
        for section in space.body:
            if isinstance(section, syntax.Section) and section.kind.name == "detector":
                names.update(dict.fromkeys(SLOTS))
        self.top = _Context(_Names(None, names))

    def report(
        self, code: str, message: str, span: Span, label: str = "", others: tuple[Label, ...] = (), help: str = ""
    ) -> None:
        if len(self.found) < MOST_FOUND:
            self.found.append(Diagnostic(code, message, span, label, others, help))

    def run(self, changes: Iterable[syntax.Node]) -> list[Diagnostic]:
        changes = tuple(changes)
        self.sections([item for item in self.space.body if isinstance(item, syntax.Section)])
        for item in (*self.definitions, *self.space.body, *changes):
            self.declaration(item)
        unique = {(d.code, d.span): d for d in reversed(self.found)}
        order = {id(source): i for i, source in enumerate(dict.fromkeys(d.span.source for d in self.found if d.span))}
        return _together(
            sorted(unique.values(), key=lambda d: (order[id(d.span.source)], d.span.start) if d.span else (0, 0))
        )

    # --- Declarations ------------------------------------------------------------------------------------------------

    def sections(self, sections: list[syntax.Section]) -> None:
        networks = [item for item in sections if item.kind.name in NETWORKS]
        for item in networks[1:]:
            first = Label(networks[0].kind.span, "here first")
            self.report("duplicate", "a space has one network", item.kind.span, others=(first,))
        seen: dict[str, syntax.Section] = {}
        for item in sections:
            if item.kind.name in NETWORKS:
                continue
            if item.kind.name in seen and item.kind.name not in ("defaults",):
                first = Label(seen[item.kind.name].kind.span, "here first")
                self.report("duplicate", f"a space has one section `{item.kind.name}`", item.kind.span, others=(first,))
            seen.setdefault(item.kind.name, item)

    def declaration(self, item: syntax.Node) -> None:
        if isinstance(item, syntax.Operator | syntax.Fusion):
            self.formals(item.formals)
            names: dict[str, syntax.Node | None] = {f.name.name: None for f in item.formals}
            own = replace(self.top, made=_values_of(item))
            if isinstance(item, syntax.Fusion):
                self.fusion(item, own.inside({**names, **bound_in(item.body.items), "width": None, "scale": None}))
            else:
                inner = own.inside({**names, **bound_in([item.body])})
                self.step(item.body, inner)
        elif isinstance(item, syntax.Let):
            self.let(item, self.top)
        elif isinstance(item, syntax.Param | syntax.Input):
            self.value(item.value, self.top)
        elif isinstance(item, syntax.Require):
            self.value(item.condition, self.top)
        elif isinstance(item, syntax.Pin):
            self.pinned(item.value, _Context(self.top.names, settings=True))
        elif isinstance(item, syntax.Section):
            self.section(item)

    def pinned(self, node: syntax.Item, context: _Context) -> None:
        """The value of a pin. The name of an option, `ir(k: 3, e: 6)`, only has the arguments that tell it apart."""
        if isinstance(node, syntax.Block | syntax.List):
            for item in node.items:
                self.pinned(item.value if isinstance(item, syntax.Named) else item, context)
        elif isinstance(node, syntax.Call) and node.function.name == "oneof":
            for item in node.arguments or ():
                self.pinned(item, context)
        elif not (isinstance(node, syntax.Call) and self.is_operator(node.function.name)):
            self.value(node, context)

    def is_operator(self, name: str) -> bool:
        return name in self.operators or name in library.OPERATORS or name in FORMS or ops.find(name) is not None

    def section(self, item: syntax.Section) -> None:
        kind = item.kind.name
        if kind == "network":
            self.body(item.body.items, self.top.inside(bound_in(item.body.items)))
        elif kind == "detector":
            inner = self.top.inside(bound_in(item.body.items))
            seen: dict[str, Span] = {}
            for slot in item.body.items:
                if not isinstance(slot, syntax.Named) or not isinstance(slot.key, syntax.Name):
                    shown = ", ".join(f"`{name}: ...`" for name in SLOTS)
                    self.report("misplaced", "a detector holds slots", slot.span, help=f"its slots are {shown}")
                    continue
                word = slot.key.name
                if word not in SLOTS:
                    help = near(word, SLOTS) or "its slots are `backbone`, `neck`, `proposals` and `head`"
                    self.report("unknown-slot", f"a detector has no slot `{word}`", slot.key.span, help=help)
                elif word in seen:
                    self.report(
                        "duplicate",
                        f"the slot `{word}` stands here twice",
                        slot.key.span,
                        others=(Label(seen[word], "also here"),),
                    )
                seen.setdefault(word, slot.key.span)
                self.step(slot.value, inner)
        else:
            if misspelt(item):
                self.report(
                    "unknown-section",
                    f"no section is called `{kind}`",
                    item.kind.span,
                    "not known",
                    help=near(kind, SECTIONS),
                )
                return
            if kind == "defaults":
                known = {p.name for operator in ops.CATALOGUE.values() for p in operator.params}
                for entry in item.body.items:
                    if (
                        isinstance(entry, syntax.Named)
                        and isinstance(entry.key, syntax.Name)
                        and entry.key.name not in known
                    ):
                        word = entry.key.name
                        help = near_argument(word, known)
                        self.report(
                            "unknown-argument",
                            f"no operator has a parameter `{word}`",
                            entry.key.span,
                            "not a parameter",
                            help=help,
                        )
            settings = _Context(self.top.names, settings=kind != "defaults")
            self.entries(item.body.items, settings)

    def entries(self, items: Iterable[syntax.Item], context: _Context) -> None:
        for item in items:
            self.value(item.value if isinstance(item, syntax.Named) else item, context)

    def formals(self, formals: tuple[syntax.Formal, ...]) -> None:
        seen: dict[str, Span] = {}
        for formal in formals:
            name = formal.name.name
            if name in seen:
                where = Label(seen[name], "also here")
                self.report("duplicate", f"the parameter `{name}` stands here twice", formal.name.span, others=(where,))
            seen.setdefault(name, formal.name.span)
            if formal.allowed is not None:
                self.value(formal.allowed, self.top)
            if formal.default is not None:
                self.value(formal.default, self.top.inside({f.name.name: None for f in formals}))

    def fusion(self, item: syntax.Fusion, context: _Context) -> None:
        seen: dict[str, Span] = {}
        for entry in item.body.items:
            if isinstance(entry, syntax.Let):
                self.let(entry, context)
                continue
            if not isinstance(entry, syntax.Named) or not isinstance(entry.key, syntax.Name):
                self.report("misplaced", "a fusion holds `let`s and entries such as `same: ...`", entry.span)
                continue
            word = entry.key.name
            if word not in ENTRIES:
                help = near(word, ENTRIES) or "it has " + ", ".join(f"`{e}`" for e in ENTRIES)
                self.report(
                    "unknown-entry", f"a fusion has no entry `{word}`", entry.key.span, "not an entry", help=help
                )
            elif word in seen:
                self.report(
                    "duplicate",
                    f"the entry `{word}` stands here twice",
                    entry.key.span,
                    others=(Label(seen[word], "also here"),),
                )
            seen.setdefault(word, entry.key.span)
            if word == "from":
                given = entry.value.name if isinstance(entry.value, syntax.Name) else ""
                if given not in SOURCES:
                    help = near(given, SOURCES) or "one of " + ", ".join(f"`{w}`" for w in SOURCES)
                    what = (
                        f"no way to feed branches is called `{given}`"
                        if given
                        else "`from` of a fusion says which branches feed which"
                    )
                    self.report("bad-argument", what, entry.value.span, help=help)
            else:
                self.step(entry.value, context)

    # --- Bodies ------------------------------------------------------------------------------------------------------

    def body(self, items: Iterable[syntax.Item], context: _Context) -> None:
        seen: dict[str, Span] = {}
        for item in items:
            name = None
            if isinstance(item, syntax.Let):
                name = item.name
                self.let(item, context)
            elif isinstance(item, syntax.Require):
                self.value(item.condition, context)
            elif isinstance(item, syntax.Named):
                if isinstance(item.key, syntax.Name):
                    name = item.key
                self.step(item.value, context)
            else:
                self.step(item, context)
            if name is not None:
                if name.name in seen:
                    where = Label(seen[name.name], "here first")
                    self.report(
                        "duplicate",
                        f"the name `{name.name}` stands for two things in one body",
                        name.span,
                        others=(where,),
                    )
                seen.setdefault(name.name, name.span)

    def let(self, item: syntax.Let, context: _Context) -> None:
        if item.formals is None:
            self.value(item.value, context)
            return
        self.formals(item.formals)
        names: dict[str, syntax.Node | None] = {f.name.name: None for f in item.formals}
        self.value(item.value, context.inside({**names, **bound_in([item.value])}))

    def step(self, node: syntax.Item, context: _Context) -> None:
        """Something that is applied to a tensor."""
        if isinstance(node, syntax.Name):
            if node.name not in context.names and node.name not in WORDS_OF_A_BODY:
                self.unknown_step(node, context)
        elif isinstance(node, syntax.Pipe):
            for step in node.steps:
                self.step(step, context)
        elif isinstance(node, syntax.Binary) and node.operator == "+":
            self.step(node.left, context)
            self.step(node.right, context)
        elif isinstance(node, syntax.If):
            self.step(node.then, context)
            self.value(node.condition, context)
            self.step(node.otherwise, context)
        elif isinstance(node, syntax.Block):
            self.body(node.items, context)
        elif isinstance(node, syntax.Match):
            self.match(node, context, step=True)
        elif isinstance(node, syntax.Call) and node.function.name == "oneof" and len(node.arguments or ()) > 1:
            for item in node.arguments or ():
                self.step(item.value if isinstance(item, syntax.Named) else item, context)
        elif isinstance(node, syntax.Number | syntax.String | syntax.Size | syntax.Range | syntax.List):
            self.report("not-an-operator", "an operator is needed here", node.span, f"this is {_kind(node)}")
        else:
            self.value(node, context)

    def unknown_step(self, node: syntax.Name, context: _Context) -> None:
        word = node.name
        callable_names = (*self.operators, *FORMS, *ops.CATALOGUE, *library.OPERATORS)
        if word in callable_names:
            help = f"write `{word} {{ ... }}`" if word in FORMS and FORMS[word].takes_block else f"write `{word}()`"
            self.report(
                "missing-parentheses", f"`{word}` is an operator, and a call has parentheses", node.span, help=help
            )
            return
        if word in self.fusions:
            self.report("fusion-as-operator", f"`{word}` is a fusion rule", node.span, help=f"write `fuse({word})`")
            return
        help = near_operator(word, (*context.names, *callable_names))
        self.report("unknown-name", f"no operator or tensor named `{word}`", node.span, "not found", help=help)

    # --- Values ------------------------------------------------------------------------------------------------------

    def value(self, node: syntax.Node, context: _Context) -> None:
        if isinstance(node, syntax.Call):
            self.call(node, context)
        elif isinstance(node, syntax.Pipe):
            for step in node.steps:
                self.step(step, context)
        elif isinstance(node, syntax.Block):
            if node.items and all(isinstance(item, syntax.Named) for item in node.items):
                self.entries(node.items, context)
            else:
                self.body(node.items, context)
        elif isinstance(node, syntax.Repeat):
            self.number(node.count, context)
            self.value(node.count, context)
            self.body(node.body.items, context.inside({"first": None}))
        elif isinstance(node, syntax.For):
            self.value(node.bind.source, context)
            self.body(node.body.items, context.inside({node.bind.name: None}))
        elif isinstance(node, syntax.Comprehension):
            inner = context
            for bind in node.binds:
                self.value(bind.source, inner)
                inner = inner.inside({bind.name: None})
            self.value(node.body, inner)
        elif isinstance(node, syntax.Match):
            self.match(node, context, step=False)
        elif isinstance(node, syntax.Binary):
            self.binary(node, context)
        elif isinstance(node, syntax.Field):
            self.field(node, context)
        elif isinstance(node, syntax.List):
            self.entries(node.items, context)
        elif isinstance(node, syntax.Let | syntax.Require):
            pass  # misplaced, as the evaluation says
        else:
            if isinstance(node, syntax.Range | syntax.Size):
                for part in children(node):
                    self.number(part, context)
            for part in children(node):
                self.value(part, context)

    def number(self, node: syntax.Node, context: _Context, choices: tuple[str, ...] = ()) -> None:
        """Words where a number has to stand."""
        if isinstance(node, syntax.Name):
            word = node.name
            known = word in context.names or word in WORDS_OF_A_BODY or word in choices
            if not known and measures.lookup(word) is None:  # last, as this looks for other packages
                self.report(
                    "unknown-name", f"no value named `{word}`", node.span, "not found", help=near(word, context.names)
                )
        elif isinstance(node, syntax.If):
            self.number(node.then, context, choices)
            self.number(node.otherwise, context, choices)
        elif isinstance(node, syntax.Match):
            for item in node.cases.items:
                if isinstance(item, syntax.Named):
                    self.number(item.value, context, choices)
        elif isinstance(node, syntax.Call) and node.function.name == "oneof":
            for item in node.arguments or ():
                self.number(item.value if isinstance(item, syntax.Named) else item, context, choices)

    def binary(self, node: syntax.Binary, context: _Context) -> None:
        if not context.settings and node.operator in ("-", "*", "/", "^", "<", "<=", ">", ">="):
            self.number(node.left, context)
            self.number(node.right, context)
        if node.operator in ("==", "!="):
            for one, other in ((node.left, node.right), (node.right, node.left)):
                known = self.alternatives(one, context)
                if (
                    known is not None
                    and isinstance(other, syntax.Name)
                    and other.name not in context.names
                    and other.name not in known
                ):
                    self.unknown_option(other, known)
            if isinstance(node.left, syntax.Name) and isinstance(node.right, syntax.Name) and not context.settings:
                words = (node.left.name, node.right.name)
                if not any(word in context.names or word in WORDS_OF_A_BODY for word in words):
                    help = near(words[0], context.names)
                    self.report("unknown-name", f"no value named `{words[0]}`", node.left.span, "not found", help=help)
        self.value(node.left, context)
        self.value(node.right, context)

    def alternatives(self, node: syntax.Node, context: _Context) -> list[str] | None:
        """The words that a name may stand for, where its declaration lists them."""
        if not isinstance(node, syntax.Name):
            return None
        declared = context.names.find(node.name)[1]
        items: tuple[syntax.Item, ...] = ()
        if isinstance(declared, syntax.Param) and declared.choices and isinstance(declared.value, syntax.List):
            items = declared.value.items
        elif isinstance(declared, syntax.Let) and declared.formals is None:
            value = declared.value
            items = (value.arguments or ()) if isinstance(value, syntax.Call) and value.function.name == "oneof" else ()
        words = [item.name for item in items if isinstance(item, syntax.Name) and item.name not in self.top.names]
        return words if len(words) == len(items) > 1 else None

    def unknown_option(self, word: syntax.Name, known: list[str]) -> None:
        help = near(word.name, known) or "one of " + ", ".join(f"`{w}`" for w in known)
        self.report("unknown-option", f"`{word.name}` is not one of the alternatives", word.span, help=help)

    def match(self, node: syntax.Match, context: _Context, step: bool) -> None:
        self.value(node.head, context)
        known = self.alternatives(node.head, context)
        seen: dict[str, Span] = {}
        complete = known is not None
        for position, item in enumerate(node.cases.items):
            if not isinstance(item, syntax.Named):
                self.report("misplaced", "a `match` holds alternatives `key: value`", item.span)
                complete = False
                continue
            (self.step if step else self.value)(item.value, context)
            if isinstance(item.key, syntax.Else):
                complete = False
                if position + 1 != len(node.cases.items):
                    self.report("misplaced", "`else` comes last", item.key.span)
                continue
            if not isinstance(item.key, syntax.Name):
                self.value(item.key, context)
            word = " ".join(item.key.span.text.split())
            if word in seen:
                self.report(
                    "duplicate",
                    f"the alternative `{word}` stands here twice",
                    item.key.span,
                    others=(Label(seen[word], "also here"),),
                )
            seen.setdefault(word, item.key.span)
            if known is not None and isinstance(item.key, syntax.Name) and word not in known:
                complete = False
                if word not in context.names:
                    self.unknown_option(item.key, known)
        missing = [word for word in known or () if word not in seen]
        if complete and missing:
            self.report(
                "not-covered",
                "the alternatives do not cover every case",
                node.head.span,
                f"`{'`, `'.join(missing)}` missing",
                help="add the missing alternatives, or `else: ...`",
            )

    def field(self, node: syntax.Field, context: _Context) -> None:
        if not isinstance(node.base, syntax.Name) or node.base.name in context.names:
            self.value(node.base, context)
            return
        owner = node.base.name
        declared = self.operators.get(owner) or self.fusions.get(owner)
        if declared is None:
            if owner not in WORDS_OF_A_BODY:
                help = near(owner, (*self.operators, *context.names))
                self.report(
                    "unknown-name", f"no operator or value named `{owner}`", node.base.span, "not found", help=help
                )
            return
        known = _values_of(declared)
        if node.name.name not in known:
            help = near(node.name.name, known) or (
                f"it has {', '.join(known)}" if known else "it has no `let` and no `repeat`"
            )
            self.report(
                "unknown-field",
                f"`{owner}` has no value named `{node.name.name}`",
                node.name.span,
                "not found",
                help=help,
            )

    # --- Calls -------------------------------------------------------------------------------------------------------

    def call(self, node: syntax.Call, context: _Context) -> None:
        """The same order of look-ups as the evaluation's."""
        name = node.function.name
        bound, declared = context.names.find(name)
        if isinstance(declared, syntax.Let) and declared.formals is not None:
            if node.body is not None:
                self.report("misplaced", "a function takes no body in braces", node.body.span)
            self.found += match_arguments(node, *formals_of(declared.formals), f"`{name}`", positional=True)[1]
        elif (item := self.operators.get(name) or library.declaration(name)) is not None:
            names, needed = formals_of(item.formals)
            names = with_shared(names)
            given, problems = match_arguments(node, names, without_body(needed, node), f"`{name}`")
            self.found += problems
            if node.body is not None:
                self.found += body_problems(node, names, given, f"`{name}`")
        elif name in FUNCTIONS and not (
            name in FORMS and all(isinstance(a, syntax.Named) for a in node.arguments or ())
        ):
            self.found += check_call(node)
            for argument in numbers_of(node):
                self.number(argument, context)
            if name == "previous" and node.arguments:
                self.previous(node.arguments[0], context)
        elif name in FORMS:
            self.form(node, context)
            return
        elif name in self.fusions:
            self.report(
                "fusion-as-operator", f"`{name}` is a fusion rule", node.function.span, help=f"write `fuse({name})`"
            )
        elif not context.settings:
            known = ops.find(name)
            if known is not None:
                self.operator(known, node, context)
            elif isinstance(declared, syntax.Let | syntax.Param):
                if not isinstance(declared.value, syntax.Name | syntax.If | syntax.Match | syntax.Index):
                    self.report(
                        "not-callable",
                        f"`{name}` is a value, decided where it is defined, and takes no arguments",
                        node.span,
                        help=f"write `{name}` alone",
                    )
            elif not bound and len(self.found) < MOST_FOUND:
                functions = [
                    n
                    for n in context.names
                    if isinstance(let := context.names.find(n)[1], syntax.Let) and let.formals is not None
                ]
                candidates = [*self.operators, *FUNCTIONS, *FORMS, *ops.CATALOGUE, *library.OPERATORS, *functions]
                self.report(
                    "unknown-operator",
                    f"no operator or function named `{name}`",
                    node.function.span,
                    "not found",
                    help=near_operator(name, candidates),
                )
        self.arguments(node, context)

    def previous(self, node: syntax.Item, context: _Context) -> None:
        """That the operator around a `previous` makes the value it asks for."""
        if isinstance(node, syntax.Name) and context.made is not None and node.name not in context.made:
            message = f"no `let` of this operator is named `{node.name}`"
            help = near(node.name, context.made) or "`previous` asks for a `let` of the same operator"
            self.report("unknown-name", message, node.span, "not found", help=help)

    def arguments(self, node: syntax.Call, context: _Context) -> None:
        for item in node.arguments or ():
            self.value(item.value if isinstance(item, syntax.Named) else item, context)
        if node.body is not None:
            self.body(node.body.items, context)

    def operator(self, operator: Operator, node: syntax.Call, context: _Context) -> None:
        defaults = {
            key
            for section in self.space.body
            if isinstance(section, syntax.Section) and section.kind.name == "defaults"
            for key in bound_in(section.body.items)
        }
        given, problems = match_arguments(node, *parameters_of(operator, defaults), f"`{operator.name}`")
        self.found += problems
        if node.body is not None and not problems:
            self.report("misplaced", f"`{operator.name}` takes no body in braces", node.body.span)
        for param in operator.params:
            if param.name in given:
                choices = (*param.choices, *(("none",) if param.default is None else ()))
                if param.type in _NUMBERS:
                    self.number(given[param.name], context, choices)

    def form(self, node: syntax.Call, context: _Context) -> None:
        form = FORMS[node.function.name]
        inside = context.inside({"width": None, "scale": None}) if form.name == "parallel" else context
        known = tuple(p for p in form.params if p != "*")
        seen: set[str] = set()
        for position, item in enumerate(node.arguments or ()):
            value = item.value if isinstance(item, syntax.Named) else item
            key = item.key.name if isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name) else ""
            if isinstance(item, syntax.Named):
                if key not in known:
                    word = item.key.span.text
                    takes = f"it takes {', '.join(f'`{p}`' for p in known)}" if known else "it takes no named arguments"
                    self.report(
                        "unknown-argument",
                        f"`{form.name}` has no argument `{word}`",
                        item.key.span,
                        "not an argument",
                        help=near_argument(word, known) or takes,
                    )
                elif key in seen:
                    self.report("duplicate", f"the argument `{key}` stands here twice", item.key.span)
            elif "*" not in form.params and position == 0 and known:
                key = known[0]
            elif "*" not in form.params and isinstance(item, syntax.Name) and item.name in known:
                key = item.name
            seen.add(key)
            if form.name == "fuse" and key == "rule":
                self.rule(value, context)
            elif ("*" in form.params and not isinstance(item, syntax.Named)) or (
                form.takes_block and key == "operator"
            ):
                self.step(value, context)
            else:
                if key == "scale":
                    self.number(value, context, ("finest",))
                self.value(value, context)
        if node.body is not None:
            self.body(node.body.items, inside)
        if (
            form.name == "fuse"
            and "rule" not in seen
            and not any(not isinstance(item, syntax.Named) for item in node.arguments or ())
        ):
            self.report(
                "missing-argument",
                "`fuse` needs a fusion rule",
                node.function.span,
                help="write `fuse(name)` with the name of a `fusion`",
            )

    def rule(self, node: syntax.Item, context: _Context) -> None:
        """The rule of a `fuse`: a fusion's name, or a call of it."""
        if isinstance(node, syntax.Call):
            name, place = node.function.name, node.function.span
            self.arguments(node, context)
        elif isinstance(node, syntax.Name):
            name, place = node.name, node.span
        else:
            self.report("unknown-fusion", "the name of a fusion is needed here", node.span)
            return
        if name in self.fusions:
            if isinstance(node, syntax.Call):
                self.found += match_arguments(node, *formals_of(self.fusions[name].formals), f"`{name}`")[1]
            elif needed := formals_of(self.fusions[name].formals)[1]:
                self.report(
                    "missing-argument",
                    f"`{name}` needs `{'`, `'.join(needed)}`",
                    place,
                    help=f"write `fuse({name}(...))`",
                )
            return
        help = near(name, self.fusions)
        if name in self.operators or name in ops.CATALOGUE or name in library.OPERATORS:
            help = f"`{name}` is an operator; a rule is declared with `fusion name {{ same: ..., merge: sum() }}`"
        elif not help:
            help = (
                f"there is {', '.join(self.fusions)}"
                if self.fusions
                else "declare it with `fusion name { same: ..., from: neighbours, merge: sum() }`"
            )
        self.report("unknown-fusion", f"no fusion named `{name}`", place, "not found", help=help)


@lru_cache(64)  # the operators of a file
def _values_of(item: syntax.Operator | syntax.Fusion) -> tuple[str, ...]:
    """What `operator.name` may ask for: its `let`s, and the depth of its repeats."""
    out: dict[str, None] = {}
    for node in walk(item.body):
        if isinstance(node, syntax.Let) and node.formals is None:
            out[node.name.name] = None
        if isinstance(node, syntax.Repeat):
            out["depth"] = None
    return tuple(out)


def _kind(node: syntax.Node) -> str:
    names = {
        syntax.Number: "a number",
        syntax.String: "a string",
        syntax.Size: "a size",
        syntax.Range: "a range",
        syntax.List: "a list",
    }
    return names[type(node)]


def words_in(trees: Iterable[syntax.Node]) -> Counter[str]:
    """How often each name stands in some trees."""
    return Counter(node.name for tree in trees for node in walk(tree) if isinstance(node, syntax.Name))


def unused(space: syntax.Space, counted: Mapping[str, int]) -> Iterator[Diagnostic]:
    """Warnings about a space's own `let`s and parameters whose name stands once in all files."""
    for item in space.body:
        if (
            isinstance(item, syntax.Let | syntax.Param)
            and counted[item.name.name] == 1
            and not item.name.name.startswith("_")
        ):
            what = "parameter" if isinstance(item, syntax.Param) else "`let`"
            decides = any(word in item.value.span.text for word in ("oneof", "manyof", "permute", "units"))
            help = "its decision is made and counted all the same" if decides else ""
            yield Diagnostic(
                "unused", f"the {what} `{item.name.name}` is never used", item.name.span, help=help, severity="warning"
            )
