"""Where an evaluation stands: names in scope, paths for nodes and decisions, the condition under which it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

from nasdsl.compiler.decision import Decision, Kind
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate.led import in_call
from nasdsl.compiler.elaborate.values import Flow, Invocation, Known, Tensor, Text
from nasdsl.compiler.elaborate.watch import Ran, Watch
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.extremes import counterexample
from nasdsl.compiler.graph import Edge, Graph, Node, NodeKind, Requirement, Shape
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.tree import Expr, Has, apply, options

MOST_NODES = 20_000
"""A space that unrolls to more nodes than this is a mistake (`repeat 1G`), to be said before memory runs out."""

MOST_WORK = 120_000
"""Evaluated expressions, with a surcharge for what takes longer. HR-NAS needs 3,000; functions that double a list
thirty times, too many.
"""

DEEPEST_CALLS = 60
"""Operators and functions of the file inside each other: what goes deeper does not end."""

MOST_UNITS = 1_000_000
"""Search units of a whole space; HR-NAS has 50,000."""

FATAL = ("too-large", "too-deep", "recursion")
"""After these, looking for more mistakes would take too long."""


class Broken:
    """The value of a definition with a mistake, which is reported where it stands; what uses it says nothing more."""


@dataclass(frozen=True)
class Binding:
    value: Any
    span: Span | None = None


class Scope:
    """Names, with an outer scope behind them."""

    def __init__(self, outer: Scope | None = None):
        self.outer = outer
        self.names: dict[str, Binding] = {}
        self.before: dict[str, int] = {}  # of the `let`s of a body: how many values each had when its run began

    def find(self, name: str) -> Binding | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(name)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def made_before(self, name: str, otherwise: int) -> int:
        """How many values a `let` had when the run of the innermost body that makes it began."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.before:
                return scope.before[name]
            scope = scope.outer
        return otherwise

    def bind(self, name: str, value: Any, span: Span | None = None) -> None:
        self.names[name] = Binding(value, span)

    def __iter__(self) -> Iterator[str]:
        """All names, for suggestions; those with a blank are the compiler's own."""
        scope: Scope | None = self
        while scope is not None:
            yield from (name for name in scope.names if " " not in name)
            scope = scope.outer


@dataclass
class Obligation:
    """Something that must hold in every architecture, to be proven when the whole space is known.

    `compared` are two values that have to agree or to fit, at the diagnostic's place and at its first other one, if it
    has one: what they are in the architecture that is found stands there. With `lost`, it must
    also hold where the network would lose a part, or an operator of the library its sense: under what the text itself
    requires.
    """

    condition: Value
    diagnostic: Diagnostic
    compared: tuple[Value, ...] = ()
    lost: bool = False
    calls: tuple[Invocation, ...] = ()  # of operators of the file that stood around the place


@dataclass
class Made:
    """One time that a decision was made: the condition under which it was there before, and under which it is there
    now too.
    """

    path: str
    before: Value
    present: Value


@dataclass(frozen=True)
class LeftOut:
    """A place in the text that says `none`, and the condition under which it is what is taken."""

    condition: Value
    span: Span


class Builder:
    """The graph while it grows."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.decisions: dict[str, Decision] = {}
        self.requirements: list[Requirement] = []
        self.asked: list[Requirement] = []  # those that stand in the text, costs aside
        self.obligations: list[Obligation] = []
        self.diagnostics: list[Diagnostic] = []
        self.fields: dict[tuple[str, str], list[tuple[Any, Value]]] = {}  # `operator.name`, in the order of the network
        self.lists: dict[str, tuple[Any, ...]] = {}  # by path: the items of lists of decisions, as the text has them
        self.running: dict[tuple[Any, ...], Any] = {}  # `previous`: by operator, name, start and number of a value
        self.instances: dict[str, str] = {}  # by path: the operator of the file that is used there
        self.flow: Flow = None  # what comes into the step that is being run
        self.ended: Span | None = None  # the step out of which nothing came, where nothing runs through the pipeline
        self.left_out: list[LeftOut] = []
        self.labelled: list[Labels] = []  # for each labelled tensor: what lists it
        self.uses: dict[str, list[Value]] = {}  # by tensor: the conditions under which something has read it
        self.passed: dict[str, str] = {}  # by what lets a tensor through: that tensor, whose readers are its own
        self.tied: dict[str, tuple[str, Mapping[str, Any], Span]] = {}  # by shared weight: the first step that has it
        self.work = 0
        self.made: list[Made] = []
        self.copies: dict[str, int] = {}
        self.units = 0
        self.defaults: dict[str, Binding] = {}  # of parameters, as a section `defaults` sets them
        self.words: tuple[str, ...] = ()  # that can be called, for suggestions
        self.homes: dict[str, Frame] = {}  # by file of the library, "" for the space: where its operators stand
        self.library_calls: list[Invocation] = []  # where the file led into the library: its mistakes are told there
        self.calls: list[Invocation] = []  # of operators of the file, the innermost last
        self.bring_out: Callable[[Iterable[Diagnostic], Invocation], list[Diagnostic]] | None = None
        self.watch: Watch | None = None

    def spend(self, amount: int, span: Span | None) -> None:
        """Notes work; text that asks for too much of it is a mistake."""
        spent = self.work > MOST_WORK
        self.work += amount
        if spent:  # said before
            raise CompileError([])
        if self.work > MOST_WORK:
            raise error(
                "too-large",
                "this unrolls to more than can be checked",
                span,
                "reached here",
                help="is a count too large, or does a function call another one twice, again and again?",
            )

    def _unique(self, name: str, taken: Mapping[str, Any], form: str) -> str:
        """The name, or the first of its numbered forms that is free."""
        unique, copy = name, self.copies.get(form, 1)
        while unique in taken:
            unique, copy = form.replace("{}", str(copy)), copy + 1
            self.copies[form] = copy
        return unique

    def come_to(self, made: Flow, before: Flow, span: Span) -> None:
        """Notes where a pipeline comes to nothing."""
        if made is not None:
            self.ended = None
        elif before is not None and self.ended is None:
            self.ended = self.library_calls[-1].span if self.library_calls else span

    def mark(self) -> tuple[int, int]:
        """How many nodes there are, and how many times something was decided."""
        return len(self.nodes), len(self.made)

    def ran(self, span: Span, since: tuple[int, int], made: Flow) -> None:
        """Tells whoever looks on what a step of the user's text came to."""
        if self.watch is not None and not self.library_calls:
            nodes, decided = range(since[0], len(self.nodes)), range(since[1], len(self.made))
            self.watch.steps.append(Ran(span, nodes, decided, made))

    def stands_for(self, span: Span | None, value: Any) -> None:
        """Tells whoever looks on what a name stands for."""
        if self.watch is not None and not self.library_calls:
            self.watch.note(span, value)

    def leave_out(self, condition: Value, span: Span, frame: Frame) -> None:
        """Notes an alternative that is `none` in the user's text."""
        if not self.library_calls:
            self.left_out.append(LeftOut(expr.both(frame.present, condition), span))

    def report(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Keeps diagnostics, one of a kind at a place: a mistake in a body is one mistake, however often the body is
        used.
        """
        if self.library_calls and self.bring_out is not None:
            diagnostics = self.bring_out(diagnostics, self.library_calls[-1])
        diagnostics = [in_call(one, self.calls) for one in diagnostics]
        known = {(d.code, d.span) for d in self.diagnostics}
        for diagnostic in diagnostics:
            if (diagnostic.code, diagnostic.span) not in known:
                known.add((diagnostic.code, diagnostic.span))
                self.diagnostics.append(diagnostic)

    @property
    def has_errors(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)

    def node(
        self,
        name: str,
        kind: NodeKind,
        op: str,
        attrs: Mapping[str, Any],
        inputs: tuple[Edge, ...],
        shape: Shape,
        present: Value,
        span: Span | None,
        weight: str = "",
        reached: Value | None = None,
    ) -> Tensor:
        if len(self.nodes) >= MOST_NODES:
            raise error(
                "too-large",
                f"the network unrolls to more than {MOST_NODES:,} operators",
                span,
                "reached here",
                help="is a repeat count too large?",
            )
        self.spend(4 + len(inputs), span)
        shape = self._sized(op, shape, inputs)
        unique = self._unique(name, self.nodes, f"{name}.{{}}")
        runs = present if reached is None else reached
        for edge in inputs:
            read = self.passed.get(edge.source, edge.source)
            self.uses.setdefault(read, []).append(expr.both(runs, edge.when))
        self.nodes[unique] = Node(
            unique,
            kind,
            op,
            dict(attrs),
            inputs,
            shape,
            runs,
            present,
            weight or unique,
            span,
        )
        return Tensor(unique, shape, present, span=span)

    def _sized(self, op: str, shape: Shape, inputs: Iterable[Edge]) -> Shape:
        """The shape with its size told from its scale alone, where the sizes of the inputs are.

        So every map has ceil(side * scale) pixels a side, through however many blocks of whatever scale it came. Where
        a map is made larger that holds if all scales that choices can give the smaller one divide the image evenly.
        """
        if not self.nodes or (not isinstance(shape.height, Expr) and not isinstance(shape.width, Expr)):
            return shape
        if op not in (*STRIDED, *SCALED):
            return shape
        image = next(iter(self.nodes.values())).shape
        sides = (image.height, image.width)
        known = [self.nodes[edge.source].shape for edge in inputs if edge.source in self.nodes]  # others have mistakes
        sources = [x for x in known if x.height is not None]
        if any(isinstance(side, Expr) for side in sides) or any(
            (x.height, x.width) != _pixels(sides, x.scale) for x in sources
        ):
            return shape
        if op not in STRIDED and any(x.scale != shape.scale and not _divides(sides, x.scale) for x in sources):
            return shape
        height, width = _pixels(sides, shape.scale)
        return replace(shape, height=height, width=width)

    def decide(
        self, path: str, kind: Kind, items: Any, labels: tuple[str, ...], size: int, frame: Frame, span: Span
    ) -> Decision:
        """A new decision, or the one already made where a tied operator is used again."""
        path = path or {"choice": "oneof", "units": "units", "subset": "manyof", "order": "permute"}[kind]
        line, column = span.source.position(span.start)
        declaration = f"{span.source.name}:{line}:{column}"
        keys: list[tuple[Known, tuple[str, str, int]]] = []
        for use in frame.uses:
            use.met[path, declaration] = number = use.met.get((path, declaration), -1) + 1
            keys.append((use.known, (path, declaration, number)))
        tied = next((known[key] for known, key in keys if key in known), None)
        if tied is not None:
            made = self.decisions[tied]
            if (made.kind, made.items, made.size) != (kind, items, size):
                raise error(
                    "tied-domains",
                    f"`{tied}` is decided once, but its uses offer different values",
                    span,
                    f"here it would be one of {len(items)}, at its first use {made.n}",
                    help="a `let` or an argument decides once; write the call where it is used to decide for each use",
                )
            self.made.append(Made(tied, made.present, frame.present))
            self.decisions[tied] = replace(made, present=expr.either(made.present, frame.present))
            for known, key in keys:
                known[key] = tied
            return made
        if kind == "units":
            self.units += len(items)
            if self.units > MOST_UNITS:
                raise error("too-large", f"the space has more than {MOST_UNITS:,} search units", span, "reached here")
        unique = self._unique(path, self.decisions, f"{path}[{{}}]")
        decision = Decision(unique, kind, items, labels, size, frame.present, declaration, span)
        self.decisions[unique] = decision
        for known, key in keys:
            known[key] = unique
        self.made.append(Made(unique, False, frame.present))
        return decision

    def marks(self) -> tuple[int, int, int]:
        """How many times something was decided, owed and required so far."""
        return len(self.made), len(self.obligations), len(self.requirements)

    def only_when(self, made: Sequence[Made], condition: Value) -> None:
        """Decisions that were made inside an alternative are there only where it is taken."""
        place = {path: i for i, path in enumerate(self.decisions)} if len(made) > 1 else {}
        for one in sorted(made, key=lambda one: place.get(one.path, 0)):  # those inside a decision stay behind it
            one.present = expr.both(condition, one.present)
            decision = self.decisions.pop(one.path)  # behind the decision that governs it
            self.decisions[one.path] = replace(decision, present=expr.either(one.before, one.present))

    def require(self, condition: Value, frame: Frame, message: str, origin: Any, span: Span | None) -> None:
        """What must hold wherever `frame` exists."""
        if follows(condition, frame.present):
            return
        condition = expr.either(expr.negate(frame.present), condition)
        if condition is True:
            return
        span = self.library_calls[-1].span if self.library_calls else span
        self.requirements.append(Requirement(condition, message, origin, span))
        if origin == "require" and not self.library_calls:
            self.asked.append(self.requirements[-1])

    def prove(
        self,
        condition: Value,
        frame: Frame,
        diagnostic: Diagnostic,
        compared: tuple[Value, ...] = (),
        lost: bool = False,
    ) -> bool:
        """An error if the condition plainly fails, something to prove later if a choice can break it.

        Work goes on after the error; the answer is whether the condition may hold.
        """
        there = expr.both(frame.present, frame.given)
        if condition is False and there is True:
            self.report([diagnostic])
            return False
        if Bounds().of(condition) != (True, True) and not follows(condition, there):
            if self.library_calls and self.bring_out is not None:
                (diagnostic,) = self.bring_out((diagnostic,), self.library_calls[-1])
            held = expr.either(expr.negate(there), condition)
            self.obligations.append(Obligation(held, diagnostic, compared, lost, tuple(self.calls)))
        return True

    def possible(self, condition: Value) -> bool:
        """Whether some values of the decisions so far meet a condition, requirements aside; True where that is hard to
        tell.
        """
        if not isinstance(condition, Expr):
            return bool(condition)
        try:
            return counterexample(self.graph(()), expr.negate(condition), ()) is not None
        except TooWide:
            return True

    def unread(self, tensors: Iterable[Tensor]) -> tuple[tuple[Tensor, Value], ...]:
        """Tensors, each with the condition under which it is there and nothing has read it so far."""
        read = ((t, self.uses.get(self.passed.get(t.node, t.node), ())) for t in tensors)
        return tuple((t, expr.both(t.present, expr.negate(expr.either(*conditions)))) for t, conditions in read)

    def some_chosen(self, conditions: Iterable[Value]) -> bool:
        """Whether one of the conditions plainly holds: so many items of a subset are asked for that one is chosen."""
        asked: dict[str, set[int]] = {}
        for condition in conditions:
            if isinstance(condition, Has):
                asked.setdefault(condition.path, set()).add(condition.item)
        return any(len(items) > self.decisions[path].n - self.decisions[path].size for path, items in asked.items())

    def note_list(self, path: str, items: Sequence[Any]) -> None:
        """Notes the items of a list in which something was decided, so that a list can pin them."""
        if any(f"{path}[{i}]" in self.decisions for i in range(len(items))):
            self.lists[path] = tuple(items)

    def record(self, frame: Frame, name: str, value: Any) -> None:
        """Notes a value that `operator.name` and `previous` may ask for."""
        if frame.operator:
            self.fields.setdefault((frame.operator, name), []).append((value, frame.present))

    def start(self, names: Iterable[str], frame: Frame) -> None:
        """Notes at the start of a body's run which values its `let`s had before: those that `previous` may mean."""
        if frame.operator:
            frame.scope.before.update({name: len(self.fields.get((frame.operator, name), ())) for name in names})

    def before(self, name: str, frame: Frame) -> list[tuple[Any, Value]]:
        """The values that a `let` had before the present run of the body that makes it, in the order of the network,
        each with the condition under which it is there. Behind the last one that can be where `frame` is, nothing.
        """
        made = self.fields.get((frame.operator, name), [])
        end = frame.scope.made_before(name, len(made))
        while end and expr.both(made[end - 1][1], frame.present) is False:
            end -= 1
        self.spend(end // 50, None)
        return made[:end]

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        """All that was built. What nothing reads stays: with other choices something may, and costs shall not change
        when choices are pinned."""
        return Graph(self.nodes, self.decisions, tuple(self.requirements), outputs, self.instances)


STRIDED = ("conv", "depthwise", "max_pool", "avg_pool", "patches", "merge_patches")
"""Operators whose output has ceil(side / stride) pixels a side, and so never more than their input."""

SCALED = ("upsample", "resize", "select", "sum", "mean", "concat")
"""Other operators whose output is as large as its scale tells where that holds for their inputs."""


def _pixels(sides: Iterable[int], scale: Value) -> tuple[Value, ...]:
    """Pixels a side of a map at a scale, of an image of those sides."""
    parts = [expr.multiply(side, scale) for side in sides]
    return tuple(parts if _divides(sides, scale) else [apply("ceil", part) for part in parts])


def _divides(sides: Iterable[int], scale: Value) -> bool:
    """Whether a side at the scale is a whole number of pixels, whatever is chosen."""
    possible = options(scale)
    return possible is not None and all(Fraction(side * s).denominator == 1 for side in sides for s in possible)


class Labels:
    """The labelled tensors of one operator or section body so far: what `earlier` lists.

    `outer` is the condition under which the body is run. A tensor of a copy or an alternative is there only where that
    is; among the others it stands with this condition.
    """

    def __init__(self, outer: Value = True) -> None:
        self.outer = outer
        self.tensors: list[Tensor] = []
        self.named: dict[str, Any] = {}
        self.absent: set[str] = set()  # labels of steps that no choice makes
        self.lost = False  # whether a labelled step has a mistake, so that there would be more

    def add(self, label: str, tensor: Tensor, frame: Frame) -> Tensor:
        """Notes a labelled tensor. In a repeated body the label stands for the list of its copies outside."""
        if not frame.copies:
            tensor = replace(tensor, label=label)
            listed = self._as_seen_outside(tensor, frame)
            self.named[label] = listed
        else:
            before = self.named.get(label, ())
            before = before if isinstance(before, tuple) else (before,)
            tensor = replace(tensor, label=f"{label}[{len(before)}]")
            listed = self._as_seen_outside(tensor, frame)
            self.named[label] = (*before, listed)
        self.tensors.append(listed)
        frame.builder.labelled.append(self)
        return tensor

    def _as_seen_outside(self, tensor: Tensor, frame: Frame) -> Tensor:
        if frame.present == self.outer:
            return tensor
        return replace(tensor, present=expr.both(frame.present, tensor.present))


@dataclass
class Use:
    """One use of an operator: what its uses decide, and how often an expression was met in this one."""

    known: Known
    met: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """Where an evaluation stands.

    Attributes:
        path, decisions: prefixes of the names of nodes and of decisions; they differ inside a tied operator.
        depth: how many operators and functions of the file stand around this place.
        given: what else holds where a value is asked for, such as the left side of an `and` for its right side: proofs
            take it for granted. Decisions do not hang on it.
        uses: of operators around this place: where one is used again, its decisions are already made.
        operator: name of the innermost operator of the file that is being run.
        incoming: what came into the operator, path or branch whose body is being run; `in` and `at` read it.
        regions: in a detector's head, what its proposals gave.
        cuts: the parts of `path` that the names of weights leave out, where branches share them.
    """

    builder: Builder
    scope: Scope
    path: str = ""
    decisions: str = ""
    uses: tuple[Use, ...] = ()
    present: Value = True
    given: Value = True
    operator: str = ""
    incoming: Flow = None
    regions: Flow = None
    cuts: tuple[tuple[int, int], ...] = ()
    labels: Labels = field(default_factory=Labels)
    settings: bool = False
    copies: bool = False
    depth: int = 0

    def but(self, **changes: Any) -> Frame:
        """The frame with some parts replaced. As `dataclasses.replace`, which takes three times as long."""
        made: Frame = object.__new__(Frame)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(changes)
        return made

    def using(self, value: Invocation | Text, **changes: Any) -> Frame:
        """The frame of one more use of an operator."""
        return self.but(uses=(*self.uses, Use(value.known)), **changes)

    def under(self, step: str) -> Frame:
        """The frame with both paths extended by a step."""
        return self.but(path=join(self.path, step), decisions=join(self.decisions, step))

    @property
    def weight(self) -> str:
        """The name of the weights of a node at `path`; empty where it has its own."""
        if not self.cuts:
            return ""
        ends = [0, *[end for _, end in self.cuts]]
        starts = [*[start for start, _ in self.cuts], len(self.path)]
        return "".join(self.path[end:start] for end, start in zip(ends, starts, strict=True))

    def nested(self) -> Frame:
        """The frame with a fresh scope inside this one."""
        return self.but(scope=Scope(self.scope))

    def when(self, condition: Value) -> Frame:
        return self.but(present=expr.both(self.present, condition))

    def granted(self, condition: Value) -> Frame:
        """The frame where a condition may be taken for granted in what is proven."""
        return self.but(given=expr.both(self.given, condition))


T = TypeVar("T")


def each(actions: Iterable[Callable[[], T]]) -> list[T]:
    """The outcomes of parts that do not depend on each other. All are tried, so that the mistakes in all are found."""
    out: list[T] = []
    problems: list[Diagnostic] = []
    failed = False
    for act in actions:
        try:
            out.append(act())
        except CompileError as problem:
            if any(d.code in FATAL for d in problem.diagnostics):
                raise
            failed = True
            problems.extend(d for d in problem.diagnostics if d not in problems)
    if failed:
        raise CompileError(problems)
    return out


def join(prefix: str, step: str) -> str:
    if not prefix or not step:
        return prefix or step
    return prefix + step if step.startswith("[") else f"{prefix}.{step}"


def mismatch(
    code: str, message: str, span: Span | None, label: str, other: Span | None, other_label: str, help: str = ""
) -> Diagnostic:
    """A diagnostic about two places that disagree."""
    others = (Label(other, other_label),) if other is not None else ()
    return Diagnostic(code, message, span, label, others, help)
