"""A bound space is run: parameters, the network, what has to hold, and the changes of `with`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasdsl.compiler import bound, syntax
from nasdsl.compiler.bind.base import MOST_FOUND
from nasdsl.compiler.bind.binder import Change, bind
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.messages import no_list_of_allowed
from nasdsl.compiler.bind.walk import unused
from nasdsl.compiler.bound import NETWORKS
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.dropped import dropped
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.frame import Broken, Builder, Frame, Scope
from nasdsl.compiler.elaborate.merging import or_else
from nasdsl.compiler.elaborate.operations import constant
from nasdsl.compiler.elaborate.pins import resolve_pins
from nasdsl.compiler.elaborate.proofs import PROOF, agree, check_pinned, in_order, overlap, prove, same_inside
from nasdsl.compiler.elaborate.settings import expression, read_defaults, read_section
from nasdsl.compiler.elaborate.sides import check_sides
from nasdsl.compiler.elaborate.steps import apply, run_body, run_let, run_require, try_labelled, try_let
from nasdsl.compiler.elaborate.used import Files
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.engine.limits import bounded
from nasdsl.compiler.graph import Edge, Graph, Shape
from nasdsl.compiler.pin import pin
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.plain import Symbol

LONGEST_CHAIN = 1_000
"""Spaces that are made from each other."""


def elaborate(
    source: Source, name: str | None = None, defines: Mapping[str, str] | None = None, watch: Watch | None = None
) -> Space:
    """The space of a file, checked as a whole.

    Args:
        name: which space of the file; the first that the file itself defines where it is left out.
        defines: parameters set from outside, as text in the language.
        watch: is told what each step comes to.

    Raises:
        CompileError: with every independent mistake that was found.
    """
    return _elaborated(Files(source), name, defines, watch)


def elaborate_all(source: Source, defines: Mapping[str, str] | None = None) -> Iterator[Space]:
    """The spaces that a file itself defines, one after the other; as `elaborate`, but the text is read once."""
    files = Files(source)
    for item in files.own:
        yield _elaborated(files, item.name.name, defines)


def _elaborated(files: Files, name: str | None, defines: Mapping[str, str] | None, watch: Watch | None = None) -> Space:
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
    program = _Program(files, base, changes, name, dict(defines or {}))
    if watch is None:
        return program.run()
    program.builder.watch = watch
    try:
        return program.run()
    finally:
        watch.nodes, watch.decisions = program.builder.nodes, program.builder.decisions
        watch.made = [made.path for made in program.builder.made]


def _chain(name: str, files: Files) -> list[syntax.Space | syntax.Derived]:
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


_HANDED_ON = "`none` is no tensor; `identity()` hands on what comes in"


class _Program:
    def __init__(self, files: Files, base: syntax.Space, changes: list[Change], name: str, defines: dict[str, str]):
        self.files, self.base, self.name, self.defines = files, base, name, defines
        self.pins = [item for item in changes if isinstance(item, syntax.Pin)]
        self.text = bind(files.definitions, base, changes, VOCABULARY)
        self.builder = Builder()
        self.builder.bring_out = library.brought_out
        self.builder.words = self.text.binder.callable_names()
        self.root = Frame(self.builder, Scope())
        self.frame = self.builder.homes[""] = self.root.nested()
        self.params: dict[str, Any] = {}
        self.flow: Flow = None
        self.output: str | None = None

    def run(self) -> Space:
        for definition in self.text.definitions:
            self._attempt(run_let, definition, self.root)
        self._set_params()
        everything = (*self.text.declarations, *self.text.changes)
        inputs = [item for item in everything if isinstance(item, bound.Input)]
        self._networks(inputs[-1] if inputs else None)
        for part in everything:
            if isinstance(part, bound.Require):
                self._attempt(self._require, part)
        sections = {}
        for part in everything:
            if isinstance(part, bound.Section) and part.kind not in (*NETWORKS, "defaults"):
                made = self._attempt(read_section, part, self.frame.but(settings=True))
                if made is not None:
                    sections[made.kind] = made
        self._stop_on_errors(self.text.found)
        graph = self.builder.graph((self.output or "",))
        self._attempt(check_sides, graph)
        with bounded(PROOF):
            self._attempt(prove, graph, self.builder)
            self._attempt(agree, graph, self.builder)
        self._stop_on_errors()
        self.builder.report(dropped(self.builder, graph))
        pins = [item for item in self.pins if not self._is_param(item)]
        whole: Graph | None = None
        values: dict[str, Any] = {}
        if pins:
            values, narrowed, places = resolve_pins(pins, graph, self.frame, self.text.binder)
            whole, graph = graph, pin(graph, values, narrowed)
            with bounded(PROOF):
                self._attempt(check_pinned, whole, graph, places)
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

    def _stop_on_errors(self, told: Sequence[Diagnostic] = ()) -> None:
        """Raises what was found. Where the names alone told of a mistake, the evaluation has nothing to add at that
        place.
        """
        errors = [d for d in self.builder.diagnostics if d.severity == "error"]
        if len(told) >= MOST_FOUND // 2:
            errors = []
        found = [*told, *(d for d in errors if not any(overlap(d.span, known.span) for known in told))]
        found = [d for d in found if not any(same_inside(d, other) for other in found)]
        if found:
            raise CompileError(sorted(found, key=in_order))
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

    # --- Parameters ---------------------------------------------------------------------------------------------------

    def _is_param(self, item: syntax.Pin) -> bool:
        return isinstance(item.place, syntax.Name) and item.place.name in self.params

    def _set_params(self) -> None:
        declared = {item.name: item for item in self.text.declarations if isinstance(item, bound.Param)}
        given: dict[str, syntax.Expr] = {}
        for change in self.pins:
            if isinstance(change.place, syntax.Name) and change.place.name in declared:
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
        for item in declared.values():
            self._attempt(self._set_param, item, given.get(item.name))
            if item.name not in self.params:
                self.frame.scope.bind(item.name, Broken, item.span)

    def _set_param(self, item: bound.Param, given: syntax.Expr | None) -> None:
        name = item.name
        default = evaluate(item.value, self.frame)
        choices: tuple[Any, ...] = ()
        if item.choices:
            if not isinstance(default, tuple) or not default:
                raise CompileError([no_list_of_allowed(item.value.span, "param task in [a, b]")])
            choices, default = default, default[0]
            self.frame.scope.bind(f"{name} in", choices)
        value = default if given is None else evaluate(self.text.binder.outside(given, settings=False), self.frame)
        place = item.value.span if given is None else given.span
        constant(value, place, "a parameter")
        if choices and value not in choices:
            shown = ", ".join(f"`{v.show(choice)}`" for choice in choices)
            help = near(v.show(value), [v.show(c) for c in choices]) or f"one of {shown}"
            raise error("bad-param", f"`{name}` cannot be `{v.show(value)}`", place, help=help)
        if not choices and _kind(value) != _kind(default):
            raise error("bad-param", f"`{name}` takes {_kind(default)}, and this is {v.describe(value)}", place)
        self.params[name] = value
        self.frame.scope.bind(name, value, item.span)
        self.builder.stands_for(item.span, value)

    # --- The network --------------------------------------------------------------------------------------------------

    def _networks(self, given_input: bound.Input | None) -> None:
        """Runs `let`s, defaults and the network in the order of the text."""
        started = False
        sections = [item for item in self.text.declarations if isinstance(item, bound.Section)]
        defaults = [item for item in sections if item.kind == "defaults"]
        for item in self.text.declarations:
            if isinstance(item, bound.Let):
                self._attempt(try_let, item, self.frame)
            elif isinstance(item, bound.Section) and item in defaults:
                defaults.remove(item)
                self._attempt(self._defaults, item)
            elif isinstance(item, bound.Section) and item.kind in NETWORKS and not started:
                started = True
                while defaults:  # they hold for the network wherever they stand
                    self._attempt(self._defaults, defaults.pop(0))
                self._attempt(self._start, given_input, item)
                if self.flow is not None:
                    self._attempt(self._network, item)

    def _require(self, item: bound.Require) -> None:
        if self.output is None and item.asks:
            return  # the network that would have had the values has a mistake itself
        run_require(item, self.frame)

    def _defaults(self, item: bound.Section) -> None:
        self.builder.defaults.update(read_defaults(item, self.frame))

    def _start(self, item: bound.Input | None, section: bound.Section) -> None:
        if item is None:
            raise error(
                "no-input",
                "the space does not say what comes in",
                section.span,
                help="write `input 3 x 224 x 224`",
            )
        size = evaluate(item.value, self.frame, "input")
        if not isinstance(size, v.SizeValue) or len(size.parts) != 3:
            raise error(
                "bad-size",
                "the input is `channels x height x width`",
                item.span,
                help="write `input 3 x 224 x 224`",
            )
        channels, height, width = size.parts
        shape = Shape(channels, height, width, 1)
        self.flow = self.builder.node("input", "input", "input", {}, (), shape, True, item.span)

    def _network(self, section: bound.Section) -> None:
        frame = self.frame.but(incoming=self.flow)
        if section.body is None:
            flow = self._detector(section, frame)
        else:
            flow = run_body(section.body, self.flow, frame)
        if isinstance(flow, Branches) and len(flow.tensors) == 1:
            flow = flow.tensors[0]
        if v.is_lost(flow) or (flow is None and self.builder.has_errors):
            return
        if not isinstance(flow, Tensor):
            what = "nothing" if flow is None else f"{len(flow.tensors)} branches"
            message, ended = f"the network ends in {what}", self.builder.ended if flow is None else None
            if ended is None:
                help = "end with a head such as `classify(classes: 10)` or `segment(classes: 19)`"
                raise error("bad-output", message, section.span, help=help)
            others = (Label(section.span, "what follows in this gets nothing"),)
            help = _HANDED_ON if re.search(r"\bnone\b", ended.text) else ""
            raise error("bad-output", message, ended, "nothing comes out of this", others=others, help=help)
        if flow.present is not True:
            self.builder.require(flow.present, self.frame, "something reaches the output", "live", section.span)
        made = self.builder.node(
            "output", "output", "output", {}, (Edge(flow.node, True),), flow.shape, True, section.span
        )
        self.output = made.node

    def _detector(self, section: bound.Section, frame: Frame) -> Flow:
        """Slots in order: backbone -> neck; proposals from the pyramid; the head reads both."""
        flow: Flow = self.flow
        proposals: Flow = None
        for slot in section.entries:
            regions = proposals if slot.key == "head" else None
            made = self._slot(slot.key, slot.value, flow, frame.but(incoming=flow, regions=regions))
            if slot.key == "proposals":
                proposals = made
            elif slot.key == "neck" and made is not None:
                flow = or_else(made, flow, frame.under(slot.key), slot.value.span)
            elif slot.key != "neck":
                flow = made
        return flow

    def _slot(self, slot: str, node: bound.Expr, incoming: Flow, frame: Frame) -> Flow:
        """Fills a slot. A `require` may ask what is in it: `head == retina`."""
        if not isinstance(node, bound.Calling | bound.Name):
            return try_labelled(slot, node, incoming, frame)
        try:
            value = evaluate(node, frame, slot)
            self.frame.scope.bind(slot, value, node.span)
            return apply(value, incoming, frame, slot, node.span)
        except CompileError as problem:
            self.builder.report(problem.diagnostics)
            self.frame.scope.bind(slot, Broken, node.span)
            return v.LOST


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
