"""A bound space is run: parameters, the network, what has to hold, and the changes of `with`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from nasdsl.compiler import bound, syntax
from nasdsl.compiler.bind.base import MOST_FOUND
from nasdsl.compiler.bind.binder import Bound, Change
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
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.engine.limits import bounded
from nasdsl.compiler.graph import Edge, Graph, Shape
from nasdsl.compiler.pin import pin
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.plain import Symbol


class Pinned(NamedTuple):
    """A graph of which some decisions are set, the whole one where that is another, and the values."""

    graph: Graph
    whole: Graph | None
    values: Mapping[str, Any]


_HANDED_ON = "`none` is no tensor; `identity()` hands on what comes in"


class Program:
    """A bound space while it is run.

    Args:
        text: the space, bound.
        base: as it is written, and `changes`, those of the spaces that are derived from it.
        defines: parameters set from outside, as text in the language.
    """

    def __init__(self, text: Bound, base: syntax.Space, changes: Sequence[Change], defines: Mapping[str, str]) -> None:
        self.text, self.base, self.defines = text, base, dict(defines)
        self.pins = [item for item in changes if isinstance(item, syntax.Pin)]
        self.builder = Builder()
        self.builder.bring_out = library.brought_out
        self.builder.words = self.text.binder.callable_names()
        self.root = Frame(self.builder, Scope())
        self.frame = self.builder.homes[""] = self.root.nested()
        self.params: dict[str, Any] = {}
        self.sections: dict[str, Any] = {}
        self.flow: Flow = None
        self.output: str | None = None

    @contextmanager
    def watched(self, watch: Watch | None) -> Iterator[None]:
        """Tells somebody what each step comes to, however it ends."""
        if watch is None:
            yield
            return
        self.builder.watch = watch
        try:
            yield
        finally:
            watch.nodes, watch.decisions = self.builder.nodes, self.builder.decisions
            watch.made = [made.path for made in self.builder.made]

    def run(self) -> Graph:
        """The graph of all architectures, nothing of which is proven yet.

        Raises:
            CompileError: with the mistakes that show in single steps.
        """
        for definition in self.text.definitions:
            self._attempt(run_let, definition, self.root)
        self._set_params()
        everything = (*self.text.declarations, *self.text.changes)
        inputs = [item for item in everything if isinstance(item, bound.Input)]
        self._networks(inputs[-1] if inputs else None)
        for part in everything:
            if isinstance(part, bound.Require):
                self._attempt(self._require, part)
        for part in everything:
            if isinstance(part, bound.Section) and part.kind not in (*NETWORKS, "defaults"):
                made = self._attempt(read_section, part, self.frame.but(settings=True))
                if made is not None:
                    self.sections[made.kind] = made
        self._stop_on_errors(self.text.found)
        return self.builder.graph((self.output or "",))

    def prove(self, graph: Graph) -> None:
        """What has to hold does, in every architecture.

        Raises:
            CompileError: with an architecture for each thing that does not.
        """
        self._attempt(check_sides, graph)
        with bounded(PROOF):
            self._attempt(prove, graph, self.builder)
            self._attempt(agree, graph, self.builder)
        self._stop_on_errors()
        self.builder.report(dropped(self.builder, graph))

    def pinned(self, graph: Graph) -> Pinned:
        """What `with` leaves of a graph.

        Raises:
            CompileError: it sets what is not there, or leaves nothing.
        """
        pins = [item for item in self.pins if not self._is_param(item)]
        if not pins:
            return Pinned(graph, None, {})
        values, narrowed, places = resolve_pins(pins, graph, self.frame, self.text.binder)
        left = pin(graph, values, narrowed)
        with bounded(PROOF):
            self._attempt(check_pinned, graph, left, places)
        self._stop_on_errors()
        return Pinned(left, graph, values)

    def space(self, name: str, files: Files, pinned: Pinned) -> Space:
        """All that is known of the space."""
        warnings = [d for d in self.builder.diagnostics if d.severity == "warning"]
        return Space(
            name=name,
            graph=pinned.graph,
            sources=tuple(file.source for file in files.files),
            params=self.params,
            overrides=self.defines,
            sections=self.sections,
            base=self.base.name.name,
            warnings=(*warnings, *unused(self.base, files.words)),
            whole=pinned.whole,
            pins=pinned.values,
            declaration=files.spaces[name][0],
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
