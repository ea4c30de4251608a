"""Files become a space: `use`, parameters, definitions, the network, and the changes of `with`."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.budgets import nothing_left, unaffordable
from nasdsl.compiler.elaborate.dropped import dropped
from nasdsl.compiler.elaborate.expressions import constant, evaluate
from nasdsl.compiler.elaborate.forms import apply_form
from nasdsl.compiler.elaborate.frame import Broken, Builder, Frame, Obligation, Scope
from nasdsl.compiler.elaborate.functions import FUNCTIONS
from nasdsl.compiler.elaborate.habits import near
from nasdsl.compiler.elaborate.pins import resolve_pins
from nasdsl.compiler.elaborate.resolve import MOST_FOUND, NETWORKS, SLOTS, misspelt, resolve, unused, walk, words_in
from nasdsl.compiler.elaborate.settings import expression, read_defaults, read_section
from nasdsl.compiler.elaborate.steps import apply, or_else, run_body, run_let, run_require, try_labelled, try_let
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.extremes import conflict, counterexample
from nasdsl.compiler.files import unquoted
from nasdsl.compiler.graph import Edge, Graph, Requirement, Shape
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import Space
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value, value_at
from nasdsl.compiler.values.plain import ABSENT, FAULT, Symbol


@dataclass(frozen=True)
class _File:
    source: Source
    tree: syntax.File


def _must_be_a_space(used: Source, item: syntax.Use) -> None:
    """Refuses a file of another kind without a word of what is in it, as a mistake in it would be shown: a file from
    somewhere may not bring others' files into messages."""
    try:
        parse(used)
    except CompileError:
        message = f"`{item.path.value}` is no space"
        raise error("not-a-space", message, item.path.span, help="spaces stand in files that end in .space") from None


_HASHED = re.compile(r"(.*)#([0-9a-f]{16})", re.DOTALL)


def _named(text: str) -> tuple[str, str]:
    """The path in a `use` and the hash that is asked for. Only with a hash, which nasdsl has written, is the path
    `quoted`: what people write is taken as it is, with `#` and `%`."""
    found = _HASHED.fullmatch(text)
    if found is None:
        return text, ""
    name = unquoted(found[1])
    return (found[1] if "\0" in name else name), found[2]


def _lies_at(name: str, using: Path | None, beside: Path) -> Path:
    """Where a used file lies: beside the one that uses it or, where that is a link, else beside what it leads to."""
    place = beside / name
    if using is not None and using.is_symlink() and not place.exists():
        place = using.resolve().parent / name
    return place


LONGEST_CHAIN = 1_000
"""Spaces that are made from each other."""


class _Files:
    """The file asked for and all that it uses, each once."""

    def __init__(self, source: Source):
        self.files: list[_File] = []
        self.spaces: dict[str, tuple[syntax.Space | syntax.Derived, _File]] = {}
        self.definitions: list[syntax.Let | syntax.Operator | syntax.Fusion] = []
        self._add(source, ())

    @property
    def own(self) -> list[syntax.Space | syntax.Derived]:
        """The spaces that the file asked for defines itself, in order."""
        return [item for item in self.files[0].tree.items if isinstance(item, syntax.Space | syntax.Derived)]

    @cached_property
    def words(self) -> Counter[str]:
        """How often each name stands in any of the files."""
        return words_in(file.tree for file in self.files)

    def _add(self, source: Source, chain: tuple[Path, ...]) -> None:
        file = _File(source, parse(source))
        self.files.append(file)
        for item in file.tree.items:
            if isinstance(item, syntax.Use):
                self._use(item, source, chain)
            elif isinstance(item, syntax.Space | syntax.Derived):
                name = item.name.name
                if name in self.spaces:
                    raise error("duplicate", f"there are two spaces named `{name}`", item.name.span)
                self.spaces[name] = (item, file)
            else:
                self.definitions.append(item)

    def _use(self, item: syntax.Use, source: Source, chain: tuple[Path, ...]) -> None:
        beside = source.path.parent if source.path is not None else Path()
        name, expected = _named(item.path.value)
        place = _lies_at(name, source.path, beside)
        path = place.resolve()
        if source.path is not None and path in (*chain, source.path.resolve()):
            raise error("use-circle", "these files use each other in a circle", item.path.span)
        if any(file.source.path is not None and file.source.path.resolve() == path for file in self.files):
            return
        if len(chain) > 30:
            raise error("use-depth", "files use each other more than 30 deep", item.path.span)
        try:
            used = read(place)
        except CompileError as problem:
            if problem.diagnostics[0].span is not None:
                raise
            found = problem.diagnostics[0]
            message = f"there is no file `{name}` beside this one" if found.code == "no-such-file" else found.message
            front, mark, _ = name.rpartition("#")
            short = found.code == "no-such-file" and mark and not expected and (beside / front).is_file()
            help = "the hash behind `#` has 16 hexadecimal digits" if short else found.help
            raise error(found.code, message, item.path.span, help=help) from None
        if path.suffix != ".space":
            _must_be_a_space(used, item)
        first = len(self.files)
        self._add(used, (*chain, source.path.resolve()) if source.path is not None else chain)
        found_hash = meaning(*[file.tree for file in self.files[first:]]) if expected else ""
        if found_hash != expected:
            raise error(
                "changed-file",
                f"`{name}`, or a file that it uses, has changed since this file was written",
                item.path.span,
                f"its hash is now {found_hash}",
                help="take the file as it was, or take the hash out if the change does not matter",
            )


def elaborate(source: Source, name: str | None = None, defines: Mapping[str, str] | None = None) -> Space:
    """The space of a file, checked as a whole.

    Args:
        name: which space of the file; the first that the file itself defines where it is left out.
        defines: parameters set from outside, as text in the language.

    Raises:
        CompileError: with every independent mistake that was found.
    """
    return _elaborated(_Files(source), name, defines)


def elaborate_all(source: Source, defines: Mapping[str, str] | None = None) -> Iterator[Space]:
    """The spaces that a file itself defines, one after the other; as `elaborate`, but the text is read once."""
    files = _Files(source)
    for item in files.own:
        yield _elaborated(files, item.name.name, defines)


def _elaborated(files: _Files, name: str | None, defines: Mapping[str, str] | None) -> Space:
    if name is None:
        if not files.own:
            raise error("no-space", "the file defines no space", None, help="write `space name { ... }`")
        name = files.own[0].name.name
    if name not in files.spaces:
        raise error("unknown-space", f"the file defines no space named `{name}`", None, help=near(name, files.spaces))
    chain = _chain(name, files)
    base = chain[0]
    assert isinstance(base, syntax.Space)
    changes = [change for derived in chain[1:] if isinstance(derived, syntax.Derived) for change in derived.changes]
    return _Program(files, base, changes, name, dict(defines or {})).run()


def _chain(name: str, files: _Files) -> list[syntax.Space | syntax.Derived]:
    """The spaces that lead to `name`, the written-out one first."""
    out: list[syntax.Space | syntax.Derived] = []
    seen: set[str] = set()
    span: Span | None = None
    while True:
        if name not in files.spaces:
            raise error("unknown-space", f"no space named `{name}`", span, "not found", help=near(name, files.spaces))
        item, _ = files.spaces[name]
        if name in seen:
            raise error("use-circle", f"the space `{name}` is made from itself", item.name.span)
        if len(out) == LONGEST_CHAIN:
            message = f"spaces are made from each other more than {LONGEST_CHAIN:,} deep"
            raise error("derived-depth", message, out[0].name.span)
        seen.add(name)
        out.append(item)
        if isinstance(item, syntax.Space):
            return out[::-1]
        name, span = item.base.name, item.base.span


class _Program:
    def __init__(
        self,
        files: _Files,
        base: syntax.Space,
        changes: list[syntax.Pin | syntax.Input | syntax.Require | syntax.Section],
        name: str,
        defines: dict[str, str],
    ):
        self.files, self.base, self.changes, self.name, self.defines = files, base, changes, name, defines
        self.builder = Builder()
        self.builder.bring_out = library.brought_out
        self.root = Frame(self.builder, Scope(), functions=FUNCTIONS, apply_form=apply_form)
        self.frame = self.root.nested()
        self.params: dict[str, Any] = {}
        self.flow: Flow = None
        self.output: str | None = None

    def run(self) -> Space:
        static = resolve(self.files.definitions, self.base, self.changes)
        for definition in self.files.definitions:
            self._attempt(self._define, definition, self.root)
        declarations = list(self.base.body)
        everything: list[syntax.Node] = [*declarations, *self.changes]
        for item in declarations:
            if isinstance(item, syntax.Operator | syntax.Fusion):
                self._attempt(self._define, item, self.frame)
        self._set_params(declarations)
        inputs = [item for item in (*declarations, *self.changes) if isinstance(item, syntax.Input)]
        self._networks(declarations, inputs[-1] if inputs else None)
        for part in everything:
            if isinstance(part, syntax.Require):
                self._attempt(self._require, part)
        sections = {}
        for part in everything:
            if (
                isinstance(part, syntax.Section)
                and part.kind.name not in (*NETWORKS, "defaults")
                and not misspelt(part)
            ):
                made = self._attempt(read_section, part, self.frame.but(settings=True))
                if made is not None:
                    sections[made.kind] = made
        self._stop_on_errors(static)
        graph = self.builder.graph((self.output or "",))
        with bounded(PROOF):
            self._attempt(self._prove, graph)
            self._attempt(self._agree, graph)
        self._stop_on_errors()
        self.builder.report(dropped(self.builder, graph))
        pins = [item for item in self.changes if isinstance(item, syntax.Pin) and not self._is_param(item)]
        whole: Graph | None = None
        values: dict[str, Any] = {}
        if pins:
            values, narrowed, places = resolve_pins(pins, graph, self.frame.but(settings=True))
            whole, graph = graph, pin(graph, values, narrowed)
            with bounded(PROOF):
                self._attempt(self._check_pinned, whole, graph, places)
            self._stop_on_errors()
        warnings = [d for d in self.builder.diagnostics if d.severity == "warning"]
        return Space(
            name=self.name,
            graph=graph,
            sources=tuple(file.source for file in self.files.files),
            params=self.params,
            overrides=self.defines,
            sections=sections,
            base=self.base.name.name,
            warnings=(*warnings, *unused(self.base, self.files.words)),
            whole=whole,
            pins=values,
            declaration=self.files.spaces[self.name][0],
        )

    def _attempt(self, act: Any, *args: Any) -> Any:
        """Runs one part; its diagnostics are kept, so that others are found too."""
        try:
            return act(*args)
        except CompileError as problem:
            self.builder.report(problem.diagnostics)
        except RecursionError:
            self.builder.report([Diagnostic("too-deep", "the definitions are nested too deeply", self.base.name.span)])
        return None

    def _has_errors(self) -> bool:
        return any(d.severity == "error" for d in self.builder.diagnostics)

    def _stop_on_errors(self, static: Sequence[Diagnostic] = ()) -> None:
        """Raises what was found. Where the names alone told of a mistake, the evaluation has nothing to add at that
        place.
        """
        errors = [d for d in self.builder.diagnostics if d.severity == "error"]
        if len(static) >= MOST_FOUND // 2:
            errors = []
        found = [*static, *(d for d in errors if not any(_overlap(d.span, known.span) for known in static))]
        found = [d for d in found if not any(_same_inside(d, other) for other in found)]
        if found:
            raise CompileError(sorted(found, key=_place))
        networks = [item for item in self.base.body if isinstance(item, syntax.Section) and item.kind.name in NETWORKS]
        if self.output is None and networks:
            raise error("bad-output", "the network ends in nothing", networks[0].kind.span)
        if self.output is None:
            raise error(
                "no-network",
                f"the space `{self.base.name.name}` has no network",
                self.base.name.span,
                help="add `network { ... }`",
            )

    def _define(self, item: syntax.Declaration, frame: Frame) -> None:
        if isinstance(item, syntax.Let):
            run_let(item, frame)
            return
        assert isinstance(item, syntax.Operator | syntax.Fusion)
        name = item.name.name
        if name in frame.scope.operators or name in frame.scope.fusions:
            raise error("duplicate", f"`{name}` is defined twice", item.name.span)
        seen: set[str] = set()
        for formal in item.formals:
            if formal.name.name in seen:
                raise error("duplicate", f"the parameter `{formal.name.name}` stands here twice", formal.name.span)
            seen.add(formal.name.name)
        if isinstance(item, syntax.Operator):
            frame.scope.operators[name] = v.UserOperator(name, item.formals, item.body, self.frame, item.name.span)
        else:
            frame.scope.fusions[name] = v.UserFusion(name, item.formals, item.body, self.frame, item.name.span)

    # --- Parameters ---------------------------------------------------------------------------------------------------

    def _is_param(self, item: syntax.Pin) -> bool:
        return isinstance(item.place, syntax.Name) and item.place.name in self.params

    def _set_params(self, declarations: list[syntax.Declaration]) -> None:
        declared = {item.name.name: item for item in declarations if isinstance(item, syntax.Param)}
        given: dict[str, syntax.Expr] = {}
        for change in self.changes:
            if (
                isinstance(change, syntax.Pin)
                and isinstance(change.place, syntax.Name)
                and change.place.name in declared
            ):
                given[change.place.name] = change.value
        for name, text in self.defines.items():
            if name not in declared:
                help = near(name, declared) or (
                    "it has " + ", ".join(f"`{d}`" for d in declared) if declared else "it has none"
                )
                message = f"the space `{self.base.name.name}` has no parameter `{name}`"
                self.builder.report([Diagnostic("unknown-param", message, help=help)])
                continue
            value = self._attempt(expression, name, text)
            if value is not None:
                given[name] = value
        for item in declarations:
            if isinstance(item, syntax.Param):
                self._attempt(self._set_param, item, given.get(item.name.name))
                if item.name.name not in self.params:
                    self.frame.scope.bind(item.name.name, Broken, item.name.span)

    def _set_param(self, item: syntax.Param, given: syntax.Expr | None) -> None:
        name = item.name.name
        if name in self.params:
            raise error("duplicate", f"the parameter `{name}` is declared twice", item.name.span)
        default = evaluate(item.value, self.frame)
        choices: tuple[Any, ...] = ()
        if item.choices:
            if not isinstance(default, tuple) or not default:
                raise error(
                    "not-a-list",
                    "after `in` stands the list of allowed values",
                    item.value.span,
                    help="write `param task in [a, b]`",
                )
            choices, default = default, default[0]
            self.frame.scope.bind(f"{name} in", choices)
        value = default if given is None else evaluate(given, self.frame)
        place = item.value.span if given is None else given.span
        constant(value, place, "a parameter")
        if choices and value not in choices:
            shown = ", ".join(f"`{v.show(choice)}`" for choice in choices)
            help = near(v.show(value), [v.show(c) for c in choices]) or f"one of {shown}"
            raise error("bad-param", f"`{name}` cannot be `{v.show(value)}`", place, help=help)
        if not choices and _kind(value) != _kind(default):
            raise error("bad-param", f"`{name}` needs {_kind(default)}, and this is {v.describe(value)}", place)
        self.params[name] = value
        self.frame.scope.bind(name, value, item.name.span)

    # --- The network --------------------------------------------------------------------------------------------------

    def _networks(self, declarations: list[syntax.Declaration], given_input: syntax.Input | None) -> None:
        """Runs `let`s, defaults and the network in the order of the text."""
        started = False
        defaults = [item for item in declarations if isinstance(item, syntax.Section) and item.kind.name == "defaults"]
        for item in declarations:
            if isinstance(item, syntax.Let):
                self._attempt(try_let, item, self.frame)
            elif isinstance(item, syntax.Section) and item in defaults:
                defaults.remove(item)
                self._attempt(self._defaults, item)
            elif isinstance(item, syntax.Section) and item.kind.name in NETWORKS and not started:
                started = True
                while defaults:  # they hold for the network wherever they stand
                    self._attempt(self._defaults, defaults.pop(0))
                self._attempt(self._start, given_input, item)
                if self.flow is not None:
                    self._attempt(self._network, item)

    def _require(self, item: syntax.Require) -> None:
        if self.output is None and any(isinstance(node, syntax.Field) for node in walk(item)):
            return  # the network that would have had the values has a mistake itself
        run_require(item, self.frame)

    def _defaults(self, item: syntax.Section) -> None:
        self.builder.defaults.update(read_defaults(item, self.frame))

    def _start(self, item: syntax.Input | None, section: syntax.Section) -> None:
        if item is None:
            raise error(
                "no-input",
                "the space does not say what comes in",
                section.kind.span,
                help="write `input 3 x 224 x 224`",
            )
        size = evaluate(item.value, self.frame, "input")
        if not isinstance(size, v.SizeValue) or len(size.parts) != 3:
            raise error(
                "bad-size",
                "the input is `channels x height x width`",
                item.value.span,
                help="write `input 3 x 224 x 224`",
            )
        channels, height, width = size.parts
        shape = Shape(channels, height, width, 1)
        self.flow = self.builder.node("input", "input", "input", {}, (), shape, True, item.value.span)

    def _network(self, section: syntax.Section) -> None:
        frame = self.frame.but(incoming=self.flow)
        if section.kind.name == "detector":
            flow = self._detector(section, frame)
        else:
            flow = run_body(section.body.items, self.flow, frame)
        if isinstance(flow, Branches) and len(flow.tensors) == 1:
            flow = flow.tensors[0]
        if v.is_lost(flow) or (flow is None and self._has_errors()):
            return
        if not isinstance(flow, Tensor):
            what = "nothing" if flow is None else f"{len(flow.tensors)} branches"
            ended = self.builder.ended if flow is None else None
            raise error(
                "bad-output",
                f"the network ends in {what}",
                section.kind.span,
                others=() if ended is None else (Label(ended, "nothing comes out of this"),),
                help="end with a head such as `classify(classes: 10)` or `segment(classes: 19)`"
                if ended is None
                else "",
            )
        if flow.present is not True:
            self.builder.require(flow.present, self.frame, "something reaches the output", "live", section.kind.span)
        made = self.builder.node(
            "output", "output", "output", {}, (Edge(flow.node, True),), flow.shape, True, section.kind.span
        )
        self.output = made.node

    def _detector(self, section: syntax.Section, frame: Frame) -> Flow:
        """Slots in order: backbone -> neck; proposals from the pyramid; the head reads both."""
        flow: Flow = self.flow
        proposals: Flow = None
        for item in section.body.items:
            if (
                not isinstance(item, syntax.Named)
                or not isinstance(item.key, syntax.Name)
                or item.key.name not in SLOTS
            ):
                flow = v.LOST  # as `resolve` says
                continue
            slot = item.key.name
            regions = proposals if slot == "head" else None
            made = self._slot(slot, item.value, flow, frame.but(incoming=flow, regions=regions))
            if slot == "proposals":
                proposals = made
            elif slot == "neck" and made is not None:
                flow = or_else(made, flow, frame.under(slot), item.value.span)
            elif slot != "neck":
                flow = made
        return flow

    def _slot(self, slot: str, node: syntax.Expr, incoming: Flow, frame: Frame) -> Flow:
        """Fills a slot. A `require` may ask what is in it: `head == retina`."""
        if not isinstance(node, syntax.Call | syntax.Name):
            return try_labelled(slot, node, incoming, frame)
        try:
            value = evaluate(node, frame, slot)
            self.frame.scope.bind(slot, value, node.span)
            return apply(value, incoming, frame, slot, node.span)
        except CompileError as problem:
            self.builder.report(problem.diagnostics)
            self.frame.scope.bind(slot, Broken, node.span)
            return v.LOST

    # --- Proofs -------------------------------------------------------------------------------------------------------

    def _prove(self, graph: Graph) -> None:
        """What has to hold for every choice: shapes that agree, items that exist."""
        proved: dict[Any, Architecture | None] = {}
        told: set[tuple[str, Span | None]] = set()
        for obligation in self.builder.obligations:
            old = obligation.diagnostic
            if (old.code, old.span) in told:
                continue
            key = (obligation.condition, obligation.lost)
            if key not in proved:
                given = self.builder.asked if obligation.lost else None
                try:
                    with bounded(PROOF // 4):  # one that is too tangled leaves room for the others
                        proved[key] = counterexample(graph, obligation.condition, given)
                except TooWide:
                    message = f"whether this always holds is too tangled to prove: {old.message}"
                    self.builder.report([replace(old, code="unproven", message=message, severity="warning")])
                    proved[key] = None
            found = proved[key]
            if found is None:
                continue
            undefined = any(value_at(value, found.indices) is FAULT for value in obligation.compared)
            if undefined and any(_overlap(old.span, span) for _, span in told):
                continue  # that a part of it has no value is told there
            told.add((old.code, old.span))
            self.builder.report([_shown_by(found, obligation, graph)])

    def _agree(self, graph: Graph) -> None:
        """Requirements that leave at least one architecture."""
        if self._has_errors() or not graph.requirements:
            return
        try:
            blamed = conflict(graph)
        except TooWide:
            message = "whether an architecture meets all requirements is too tangled to prove"
            self.builder.report([Diagnostic("unproven", message, graph.requirements[0].span, severity="warning")])
            return
        if blamed:
            raise CompileError([_contradiction(blamed)])
        found = unaffordable(graph)
        if found is None:
            return
        if found.severity == "error":
            raise CompileError([found])
        self.builder.report([found])

    def _check_pinned(self, whole: Graph, graph: Graph, places: Mapping[str, Span]) -> None:
        blamed = nothing_left(graph, [r for r in graph.requirements if r.condition is False])
        if blamed is None:
            return
        if isinstance(blamed, Diagnostic):
            place, *_ = sorted(places.values(), key=lambda span: span.start)
            budget = (Label(blamed.span, blamed.label),) if blamed.span is not None else ()
            raise CompileError([replace(blamed, span=place, label="", others=(*budget, *blamed.others))])
        before = next(
            (r for r in whole.requirements if r.message == blamed[0].message and r.span == blamed[0].span), blamed[0]
        )
        concerned = sorted(
            {places[p] for p in expr.decisions_of(before.condition) if p in places}, key=lambda s: s.start
        )
        others = [Label(span, "with this one") for span in concerned[1:]]
        others += [Label(r.span, "this has to hold") for r in blamed if r.span is not None]
        place = concerned[0] if concerned else next(iter(places.values()))
        raise error("requirement-broken", f"with these values `{blamed[0].message}` cannot hold", place, others=others)


PROOF = 2_000_000
"""Table entries that all proofs of a space may take together: a few seconds."""

MOST_TRIED = 1_000
"""Combinations that are tried to leave decisions out of a message."""

MOST_SHOWN = 6
"""Decisions of a combination that a message names."""


def _shown_by(found: Architecture, obligation: Obligation, graph: Graph) -> Diagnostic:
    """The diagnostic of an obligation that an architecture breaks, with the decisions that show it."""
    diagnostic = obligation.diagnostic
    own = _telling(obligation.condition, found, graph)
    shown = ", ".join(f"`{path}: {graph.decisions[path].describe(found.indices[path])}`" for path in own[:MOST_SHOWN])
    more = f" and {len(own) - MOST_SHOWN} more" if len(own) > MOST_SHOWN else ""
    values = [_told(value_at(value, found.indices)) for value in obligation.compared]
    if values and diagnostic.others:
        told = Label(diagnostic.others[0].span, f"here this {values[1]}")
        diagnostic = replace(diagnostic, label=f"here this {values[0]}", others=(told, *diagnostic.others[1:]))
    elif values:
        diagnostic = replace(diagnostic, label=f"here {' and '.join(value.removeprefix('is ') for value in values)}")
    example = f"for example with {shown}{more}" if shown else ""
    return replace(diagnostic, help="\n".join(part for part in (example, diagnostic.help) if part))


def _told(value: Any) -> str:
    return "has no value" if value is FAULT or value is ABSENT else f"is {v.show(value)}"


def _telling(condition: Value, found: Architecture, graph: Graph) -> list[str]:
    """The decisions because of which an architecture breaks a condition: without those it breaks whatever they are."""
    own = [path for path in graph.decisions if path in found.indices and path in expr.decisions_of(condition)]
    free: list[str] = []
    for path in own:
        domains = [_alternatives(graph.decisions[other]) for other in (*free, path)]
        if all(domains) and math.prod(map(len, domains)) <= MOST_TRIED:
            others = (dict(zip((*free, path), values, strict=True)) for values in itertools.product(*domains))
            if not any(expr.holds(condition, {**found.indices, **values}) for values in others):
                free.append(path)
    return [path for path in own if path not in free]


def _alternatives(decision: Decision) -> list[Any]:
    """The values of a choice. Of units all: a reader takes them for kept where nothing else is said."""
    if decision.kind == "units":
        return [tuple(range(decision.n))]
    return list(range(decision.n)) if decision.kind == "choice" else []


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    """In the order of the text; what has no place comes first."""
    return ("", 0) if diagnostic.span is None else (diagnostic.span.source.name, diagnostic.span.start)


def _same_inside(d: Diagnostic, other: Diagnostic) -> bool:
    """Whether another diagnostic says the same of a part of the place."""
    if d.span is None or other.span is None or (d.code, d.message) != (other.code, other.message):
        return False
    inside = d.span.source is other.span.source and d.span.start <= other.span.start and other.span.end <= d.span.end
    return inside and d.span != other.span


def _overlap(a: Span | None, b: Span | None) -> bool:
    return a is not None and b is not None and a.source is b.source and a.start < b.end and b.start < a.end


def _contradiction(blamed: Sequence[Requirement]) -> Diagnostic:
    """Why no architecture is left."""
    asked = [r for r in blamed if r.origin == "require"]
    first, *rest = sorted(blamed, key=lambda r: r.origin != "require")
    if len(blamed) == 1:
        message = (
            f"no architecture meets `{first.message}`" if asked else f"in no architecture it holds that {first.message}"
        )
        return Diagnostic("no-architecture", message, first.span)
    others = tuple(
        Label(r.span, "and this one" if r.origin == "require" else "something has to reach this")
        for r in rest
        if r.span is not None
    )
    message = "these requirements contradict each other: no architecture meets them all"
    return Diagnostic("no-architecture", message, first.span, "this one", others)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "`true` or `false`"
    if v.is_number(value):
        return "a number"
    if isinstance(value, Symbol):
        return "a word"
    if isinstance(value, str):
        return "a string"
    return v.describe(value)
