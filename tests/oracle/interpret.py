"""What a program means, run with plain values: one run an architecture.

The program is run again and again. Each run takes the answers of its decisions from a list, the first value where the
list ends; the next list is that of the run with its last answer moved on. Nothing here knows of expressions over
decisions: a run sees numbers, words and tensors, takes one branch of a choice and never looks at the others.

A run that goes wrong goes on as far as it can, as a `require` behind the mistake may say that it is no architecture.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler import syntax
from tests.oracle.layers import PARAMETERS, Layer, Map, Units, Word, Wrong, applied, check, is_whole


@dataclass(frozen=True)
class Answer:
    """One decision of an architecture: its path, where its expression stands in the text, and its value as an index,
    or as a tuple of indices."""

    path: str
    place: int
    kind: str
    value: Any


@dataclass(frozen=True)
class Member:
    """One architecture. `inside` tells whether it meets the requirements on costs."""

    answers: tuple[Answer, ...]
    layers: tuple[Layer, ...]
    macs: int
    params: int
    inside: bool


@dataclass
class Meaning:
    """What a program means.

    Attributes:
        members: its architectures.
        wrong: what goes wrong in some of them; the program is ill-formed where there is any.
        unsure: what may go wrong, in runs of which a requirement can't be told, or beyond the budgets.
        excused: what goes wrong in runs that are no architecture, as a requirement says.
        visited: where the values stand in the text that some run came by, from and to.
    """

    members: list[Member] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)


class TooMany(Exception):
    """The program has more architectures than were asked for."""


def meaning(file: syntax.File, name: str, most: int) -> Meaning:
    """The architectures of a space.

    Raises:
        TooMany: there are more than `most`, those that break a requirement included.
    """
    made = Meaning()
    answers: list[int] = []
    for _ in range(most):
        run = _Run(answers)
        run.program(file, name)
        run.tell(made)
        made.visited |= run.visited
        while run.taken and run.taken[-1][0] + 1 == run.taken[-1][1]:
            run.taken.pop()
        if not run.taken:
            return made
        answers = [index for index, _ in run.taken]
        answers[-1] += 1
    raise TooMany


# --- Values -----------------------------------------------------------------------------------------------------------


class Hurt(Exception):
    """Something hangs on what went wrong before."""


POISON = object()
"""The value of a name whose expression went wrong, and what comes out of a step that did."""

TOTALS = ("macs", "params", "flops")


class Operator:
    """An operator as a value. `label` is the name of the alternative that it was chosen as."""

    label: str = ""


@dataclass(eq=False)
class Use(Operator):
    """A call of an operator with its arguments. What it decides the first time it is used holds for every use.

    `kept` are the arguments that stay when others change: those that were given, and defaults that decided something.
    """

    name: str
    definition: syntax.Operator | None
    arguments: Mapping[str, Any]
    path: str
    memory: dict[Any, Any] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()


@dataclass(eq=False)
class Steps(Operator):
    parts: Sequence[Any]


@dataclass(eq=False)
class Terms(Operator):
    parts: Sequence[Any]


@dataclass(eq=False)
class Text(Operator):
    """Steps in braces, `repeat`, `for`, `residual`: text that is run where it is used."""

    node: syntax.Expr
    env: Env
    path: str
    memory: dict[Any, Any] = field(default_factory=dict)
    own_input: bool = False  # whether `in` is what comes in where it is used


@dataclass(eq=False)
class Gather(Operator):
    """`concat(...)`, `sum(...)`, `mean(...)`, `branches(...)`. Without either list they are of what comes in."""

    how: str
    items: Sequence[Any] | None  # tensors, and operators for what comes in; a list stands for its items
    tensors: Sequence[Any] | None


class Nothing(int):
    """The sum of a list without items: 0, or a step that adds nothing."""


class Items(list[Any]):
    """A list of which choices decide what it holds: what is there.

    `places` are those of the items in the list of all that may be there, of `size` items; None where other
    architectures tell. `anew` tells that some that may be there are, or start from, tensors with names.
    """

    def __init__(
        self, items: Iterable[Any], places: Sequence[int] | None = None, size: int | None = None, anew: bool = False
    ) -> None:
        super().__init__(items)
        self.places, self.size = places, size
        self.anew = anew or any(map(_starts_anew, self))


class Loose(tuple[Any, ...]):
    """A set of branches of which other architectures tell what may be there."""


@dataclass(eq=False)
class Parallel(Operator):
    """`parallel { ... }`: a body for each branch."""

    body: syntax.Block
    env: Env
    path: str


@dataclass(eq=False)
class Side(Operator):
    """`auxiliary(weight: w) { ... }`, or with an operator in the place of the braces."""

    body: syntax.Block | None
    operator: Any
    weight: Any
    env: Env
    path: str
    memory: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Function:
    formals: tuple[syntax.Formal, ...]
    body: syntax.Expr
    env: Env


class Scope:
    """Names, each with its value and whether no decision can change that value."""

    def __init__(self, outer: Scope | None = None) -> None:
        self.outer = outer
        self.names: dict[str, tuple[Any, bool]] = {}

    def find(self, name: str) -> tuple[Any, bool] | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


class Labels:
    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self.tensors: list[Any] = []  # maps, and what went wrong in the place of one


@dataclass
class Env:
    """Where an evaluation stands.

    Attributes:
        path: of decisions.
        memories: of the uses of operators around this place, each with how often a decision was met in this use.
        starts: by the name of a `let`: when the run of the innermost body that makes it began.
        copies: whether the body is run several times, so that a label stands for a list.
    """

    scope: Scope
    path: str = ""
    incoming: Any = None
    operator: str = ""
    labels: Labels = field(default_factory=Labels)
    names: Mapping[int, str] = field(default_factory=dict)
    memories: tuple[tuple[dict[Any, Any], dict[Any, int]], ...] = ()
    starts: Mapping[str, int] = field(default_factory=dict)
    copies: bool = False

    def but(self, **changes: Any) -> Env:
        made: Env = object.__new__(Env)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(changes)
        return made

    def under(self, step: str) -> Env:
        return self.but(path=join(self.path, step))


def join(path: str, step: str) -> str:
    if not path or not step:
        return path or step
    return path + step if step.startswith("[") else f"{path}.{step}"


def places_of(items: Sequence[Any]) -> list[str]:
    """How paths go by the items of a list: by their places among all that may be there."""
    if not isinstance(items, Items):
        return [f"[{i}]" for i in range(len(items))]
    return [f"[~{i}]" for i in range(len(items))] if items.places is None else [f"[{i}]" for i in items.places]


def is_number(value: Any) -> bool:
    return isinstance(value, int | Fraction) and not isinstance(value, bool)


def plain(value: int | Fraction) -> int | Fraction:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def shown(value: Any) -> str:
    if isinstance(value, Word):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def kind_of(value: Any) -> str:
    for word, kind in (("truth", bool), ("number", int | Fraction), ("word", Word), ("text", str), ("list", list)):
        if isinstance(value, kind):
            return word
    return "record" if isinstance(value, dict) else "operator" if isinstance(value, Operator) else "other"


def alike(left: Any, right: Any) -> bool:
    """Whether two values are equal.

    Raises:
        Wrong: they are of different kinds.
    """
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Word) and isinstance(other, Use):
            return one.text in (other.label, other.name)
        if isinstance(one, Word) and isinstance(other, Operator):
            return one.text == other.label
    if kind_of(left) != kind_of(right):
        raise Wrong(f"{shown(left)} is compared with {shown(right)}")
    if isinstance(left, list):
        return len(left) == len(right) and all(alike(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def step_names(body: Iterable[Any]) -> dict[int, str]:
    """The name of each call that is a step: its operator's, numbered where the body has several of that name.

    A label takes the place of the name; `residual`, `match`, braces and the two sides of a sum belong to the same body.
    """
    found: list[tuple[int, str]] = []

    def visit(node: Any) -> None:
        match node:
            case syntax.Pipe():
                for step in node.steps:
                    visit(step)
            case syntax.Binary(operator="+"):
                visit(node.left)
                visit(node.right)
            case syntax.If():
                visit(node.then)
                visit(node.otherwise)
            case syntax.Block():
                for item in node.items:
                    visit(item)
            case syntax.Call():
                if node.function.name == "residual" and node.body is not None:
                    visit(node.body)
                else:
                    found.append((id(node), node.function.name))
            case syntax.Repeat():
                found.append((id(node), "repeat"))
            case syntax.For():
                found.append((id(node), "for"))

    for item in body:
        visit(item)
    out: dict[int, str] = {}
    for key, name in found:
        several = [other for other, word in found if word == name]
        out[key] = name if len(several) == 1 else f"{name}[{several.index(key)}]"
    return out


DECIDING = ("oneof", "manyof", "permute", "units")


def _tied(new: Any, old: Any) -> Any:
    """A default that was computed anew; the operators in it decide what they decided before."""
    if isinstance(new, Use) and isinstance(old, Use) and new.name == old.name and new.definition is old.definition:
        arguments = {key: _tied(value, old.arguments.get(key)) for key, value in new.arguments.items()}
        made = replace(new, arguments=arguments, path=old.path, memory=old.memory)
        made.label = new.label
        return made
    if isinstance(new, Text) and isinstance(old, Text) and new.node is old.node:
        return replace(new, path=old.path, memory=old.memory)
    if type(new) is type(old) and isinstance(new, Steps | Terms) and len(new.parts) == len(old.parts):
        return replace(new, parts=list(map(_tied, new.parts, old.parts)))
    if isinstance(new, list | tuple) and type(new) is type(old) and len(new) == len(old):
        items = list(map(_tied, new, old))
        return tuple(items) if isinstance(new, tuple) else Items(items) if isinstance(new, Items) else items
    return new


def is_fixed(node: Any, scope: Scope) -> bool:
    """Whether no decision can change the value of an expression."""
    if isinstance(node, syntax.Name):
        found = scope.find(node.name)
        return found is None or found[1]
    if isinstance(node, syntax.Incoming | syntax.Field):
        return False
    if isinstance(node, syntax.Call):
        if node.function.name in (*DECIDING, "previous"):
            return False
        found = scope.find(node.function.name)
        if found is not None and isinstance(found[0], Function) and not is_fixed(found[0].body, found[0].env.scope):
            return False
        return all(is_fixed(item, scope) for item in node.arguments or ())
    return all(is_fixed(child, scope) for child in _children(node))


def has_fixed_items(node: Any, scope: Scope) -> bool:
    """Whether no decision can change the items of a list, though it may change which of them are there."""
    if isinstance(node, syntax.Range):
        return node.step is None or is_fixed(node, scope)
    if isinstance(node, syntax.Call) and node.function.name == "manyof":
        return is_fixed((node.arguments or ())[1], scope)
    return is_fixed(node, scope)


def _children(node: Any) -> Iterator[Any]:
    match node:
        case syntax.List():
            yield from node.items
        case syntax.Comprehension():
            yield from (bind.source for bind in node.binds)
            yield node.body
        case syntax.Index():
            yield from (node.base, node.index)
        case syntax.Unary():
            yield node.operand
        case syntax.Binary():
            yield from (node.left, node.right)
        case syntax.Range():
            yield from (part for part in (node.first, node.last, node.step) if part is not None)
        case syntax.If():
            yield from (node.then, node.condition, node.otherwise)
        case syntax.Match():
            yield node.head
            yield from node.cases.items
        case syntax.Block():
            yield from node.items
        case syntax.Named():
            yield node.value


# --- One run ----------------------------------------------------------------------------------------------------------


class _Run:
    def __init__(self, answers: Sequence[int]) -> None:
        self.answers = answers
        self.asked = 0  # how often a decision was asked for
        self.taken: list[tuple[int, int]] = []  # of each decision: which of its values, of how many
        self.decided: list[Answer] = []
        self.layers: list[Layer] = []
        self.read: set[int] = set()
        self.noted: list[Labels] = []  # of each labelled tensor: where it was noted
        self.fields: dict[tuple[str, str], list[Any]] = {}
        self.history: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.operators: dict[str, syntax.Operator] = {}
        self.numbers = itertools.count(1)
        self.wrong: list[str] = []
        self.member = self.inside = True  # as far as requirements tell
        self.unsure = False
        self.totals: dict[str, int] = {}
        self.top = Env(Scope())
        self.visited: set[tuple[int, int]] = set()

    def tell(self, out: Meaning) -> None:
        if not self.member:
            out.excused.extend(self.wrong[:1])
            return
        if self.wrong:
            (out.unsure if self.unsure or not self.inside else out.wrong).extend(self.wrong[:1])
            return
        macs, params = self.totals["macs"], self.totals["params"]
        out.members.append(Member(tuple(self.decided), tuple(self.layers), macs, params, self.inside))

    # declarations

    def program(self, file: syntax.File, name: str) -> None:
        spaces = {item.name.name: item for item in file.items if isinstance(item, syntax.Space | syntax.Derived)}
        changes: list[Any] = []
        space = spaces[name]
        while isinstance(space, syntax.Derived):
            changes = [*space.changes, *changes]
            space = spaces[space.base.name]
        for definition in file.items:
            if isinstance(definition, syntax.Operator):
                self.operators[definition.name.name] = definition
            elif isinstance(definition, syntax.Let):
                self.let(definition, self.top)
        self.top = self.top.but(scope=Scope(self.top.scope))
        given = {
            c.place.name: c.value for c in changes if isinstance(c, syntax.Pin) and isinstance(c.place, syntax.Name)
        }
        for item in space.body:
            if isinstance(item, syntax.Operator):
                self.operators[item.name.name] = item
            elif isinstance(item, syntax.Param):
                self.param(item, given.get(item.name.name))
        inputs = [item.value for item in (*space.body, *changes) if isinstance(item, syntax.Input)]
        for item in space.body:
            if isinstance(item, syntax.Let):
                self.let(item, self.top)
            elif isinstance(item, syntax.Section):
                self.network(item, inputs[-1])
        costly = [layer for layer in self.layers if not layer.aside]
        self.totals = {"macs": sum(layer.macs for layer in costly), "params": sum(layer.params for layer in costly)}
        self.totals["flops"] = 2 * self.totals["macs"]
        for item in (*space.body, *changes):
            if isinstance(item, syntax.Require):
                self.require(item, self.top)

    def param(self, item: syntax.Param, given: syntax.Expr | None) -> None:
        default = self.value(item.value, self.top)
        value = (default[0] if item.choices else default) if given is None else self.value(given, self.top)
        if (item.choices and value not in default) or (not item.choices and kind_of(value) != kind_of(default)):
            self.wrong.append(f"`{item.name.name}` cannot be {shown(value)}")
        self.top.scope.names[item.name.name] = value, True

    def network(self, section: syntax.Section, size: Any) -> None:
        channels, height, width = self.value(size, self.top, "input")
        image = Map(channels, height, width, Fraction(1), next(self.numbers))
        out = self.body(section.body.items, image, self.top.but(incoming=image))
        if out is POISON:
            return
        if isinstance(out, tuple) and len(out) == 1:
            (out,) = out
        if out is None or (isinstance(out, Map) and out.gone):
            self.member = False
        elif not isinstance(out, Map):
            self.wrong.append("the network ends in no tensor")

    def let(self, item: syntax.Let, env: Env) -> None:
        name = item.name.name
        if item.formals is not None:
            env.scope.names[name] = Function(item.formals, item.value, env), False
            return
        fixed = is_fixed(item.value, env.scope)
        value = self.tried(lambda: self.value(item.value, env, join(env.path, name)))
        env.scope.names[name] = value, fixed
        if value is not POISON:
            self.record(env, name, value)

    def record(self, env: Env, name: str, value: Any) -> None:
        if env.operator:
            self.fields.setdefault((env.operator, name), []).append(value)
            self.history.setdefault((env.operator, name), []).append((next(self.numbers), value))

    def require(self, item: syntax.Require, env: Env) -> None:
        """Each of several conditions joined by `and` tells by itself, whatever stands before it."""
        for condition in _conditions(item.condition):
            known = len(self.wrong)
            held = self.tried(partial(self.condition, condition, env))
            if held is POISON:
                self.unsure = self.unsure or len(self.wrong) == known
            elif not held:
                if any(isinstance(n, syntax.Name) and n.name in TOTALS for n in _walk(condition)):
                    self.inside = False
                else:
                    self.member = False

    def tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Wrong as problem:
            self.wrong.append(str(problem))
        except Hurt:
            pass
        return POISON

    # decisions

    def decide(self, env: Env, path: str, node: syntax.Node, kind: str, values: Sequence[Any]) -> Any:
        """One of the values; the one already taken where a tied operator is used again."""
        path = path or {"choice": "oneof", "units": "units", "subset": "manyof", "order": "permute"}[kind]
        place = node.span.start
        self.asked += 1
        path, told = path.replace("[~", "["), re.sub(r"\[~\d+\]", "[~]", path)  # as if all items were there
        keys = []
        for memory, met in env.memories:
            count = met.get((path, place), 0)
            met[path, place] = count + 1
            keys.append((memory, (path, place, count)))
        for memory, key in keys:
            if key in memory:
                value = memory[key]
                break
        else:
            number = len(self.taken)
            index = self.answers[number] if number < len(self.answers) else 0
            self.taken.append((index, len(values)))
            value = values[index]
            self.decided.append(Answer(told, place, kind, value))
        for memory, key in keys:
            memory[key] = value
        return value

    # steps

    def body(self, items: Iterable[Any], flow: Any, env: Env) -> Any:
        items = tuple(items)
        now = next(self.numbers)
        env = env.but(
            scope=Scope(env.scope),
            names={**env.names, **step_names(items)},
            starts={**env.starts, **{item.name.name: now for item in items if isinstance(item, syntax.Let)}},
        )
        for item in items:
            if isinstance(item, syntax.Let):
                self.let(item, env)
            elif isinstance(item, syntax.Require):
                self.require(item, env)
            elif isinstance(item, syntax.Named):
                flow = self.labelled_step(item, flow, env)
            else:
                flow = self.tried_step(item, flow, env)
        return flow

    def tried_step(self, node: syntax.Expr, flow: Any, env: Env) -> Any:
        return self.tried(lambda: self.step(node, flow, env))

    def labelled_step(self, item: syntax.Named, flow: Any, env: Env) -> Any:
        assert isinstance(item.key, syntax.Name)
        label = item.key.name
        flow = self.tried(lambda: self.labelled(label, item.value, flow, env))
        before = env.labels.named.get(label, [])
        before = before if isinstance(before, list) else [before]
        if isinstance(flow, Map):
            flow = replace(flow, label=f"{label}[{len(before)}]" if env.copies else label)
        env.scope.names[label] = flow, False
        if not isinstance(flow, Map):
            env.labels.named[label] = flow
            if flow is POISON:
                self.note(flow, env.labels)
            return flow
        env.labels.named[label] = [*before, flow] if env.copies else flow
        self.note(flow, env.labels)
        return flow

    def note(self, tensor: Any, labels: Labels) -> None:
        labels.tensors.append(tensor)
        self.noted.append(labels)

    def labelled(self, label: str, node: syntax.Expr, flow: Any, env: Env) -> Any:
        if isinstance(node, syntax.Call | syntax.Repeat | syntax.For):
            return self.step(node, flow, env.but(names={**env.names, id(node): label}))
        return self.step(node, flow, env.under(label).but(names=step_names([node])))

    def step(self, node: syntax.Expr, flow: Any, env: Env) -> Any:
        match node:
            case syntax.Pipe():
                for part in node.steps:
                    flow = self.tried_step(part, flow, env)
                return flow
            case syntax.Binary(operator="+"):
                terms = _terms(node)
                anew = any(self.starts_anew(term, env) for term in terms)
                return self.together("sum", [self.step(term, flow, env) for term in terms], flow, anew)
            case syntax.If():
                return self.step(node.then if self.condition(node.condition, env) else node.otherwise, flow, env)
            case syntax.Match():
                label, taken = self.case(node, env)
                if is_fixed(node.head, env.scope):
                    return self.step(taken, flow, env)
                return self.labelled(label, taken, flow, env)
            case syntax.Block():
                return self.body(node.items, flow, env)
            case syntax.Repeat():
                return self.repeat(node, flow, env.under(env.names.get(id(node), "repeat")))
            case syntax.For():
                return self.loop(node, flow, env, env.names.get(id(node), "for"))
            case syntax.Call(function=syntax.Name(name="residual")) if node.body is not None:
                return self.residual(node.body, flow, env)
            case syntax.Call():
                name = env.names.get(id(node), node.function.name)
                return self.apply(self.value(node, env, join(env.path, name)), flow, env)
        return self.apply(self.value(node, env), flow, env)

    def repeat(self, node: syntax.Repeat, flow: Any, env: Env) -> Any:
        count = self.value(node.count, env, join(env.path, "depth"))
        if not is_whole(count) or count < 0:
            raise Wrong(f"a repeat of {shown(count)}")
        self.record(env, "depth", count)
        for i in range(count):
            scope = Scope(env.scope)
            scope.names["first"] = i == 0, True
            flow = self.body(node.body.items, flow, env.under(f"[{i}]").but(scope=scope, names={}, copies=True))
        return flow

    def loop(self, node: syntax.For, flow: Any, env: Env, name: str) -> Any:
        """A body for each item that is there."""
        fixed = has_fixed_items(node.bind.source, env.scope)
        try:
            items = self.items(node.bind.source, env, join(env.path, f"{name}.{node.bind.name}"))
        except (Hurt, Wrong):
            self.note(POISON, env.labels)  # what the body would have labelled is not nothing
            raise
        for place, item in zip(places_of(items), items, strict=True):
            scope = Scope(env.scope)
            scope.names[node.bind.name] = item, fixed
            flow = self.body(node.body.items, flow, env.under(f"{name}{place}").but(scope=scope, names={}, copies=True))
        return flow

    def residual(self, block: syntax.Block, flow: Any, env: Env) -> Any:
        inside = self.body(block.items, flow, env)
        if flow is POISON or inside is POISON:
            return POISON
        if isinstance(flow, tuple) or (flow is not None and isinstance(inside, tuple)):
            raise Wrong("a residual of several branches")
        if not isinstance(flow, Map) or not isinstance(inside, Map):
            return flow if isinstance(flow, Map) else inside
        if (flow.height is None) != (inside.height is None):
            raise Wrong("a map and a vector are added")
        stride = flow.scale / inside.scale
        if stride.denominator != 1:
            raise Wrong(f"no stride leads from {flow.scale} to {inside.scale}")
        shortcut: Any = flow
        if stride != 1 or flow.channels != inside.channels:
            arguments = {"out": inside.channels, "stride": stride.numerator, "act": Word("none")}
            shortcut = self.layer("conv", arguments, flow)
        return shortcut if shortcut.gone else self.merged("sum", [shortcut, inside])

    def apply(self, value: Any, flow: Any, env: Env) -> Any:
        if isinstance(value, Map | tuple):
            return value
        if value is POISON:
            raise Hurt
        if isinstance(value, list):
            return _branches(value)
        if isinstance(value, Nothing):
            return self.together("sum", [], flow, False)
        if value is None or value == Word("none"):
            return None
        if isinstance(value, Use) and value.definition is not None:
            return self.use(value, value.definition, flow, env)
        if isinstance(value, Use):
            if flow is POISON:
                raise Hurt
            if isinstance(flow, tuple):
                if len(flow) > 1:
                    raise Wrong("several branches come in")
                flow = flow[0] if flow else None
            return None if flow is None else self.layer(value.name, value.arguments, flow)
        if isinstance(value, Steps):
            for part in value.parts:
                flow = self.apply(part, flow, env)
            return flow
        if isinstance(value, Terms):
            made = [self.apply(part, flow, env) for part in value.parts]
            return self.together("sum", made, flow, any(map(_starts_anew, value.parts)))
        if isinstance(value, Text):
            memories = (*env.memories, (value.memory, {}))
            inner = value.env.but(path=value.path, memories=memories, names=step_names([value.node]))
            if value.own_input:
                inner = inner.but(incoming=flow)
            return self.step(value.node, flow, inner)
        if isinstance(value, Gather):
            if value.items is not None:
                return self.gathered(value.how, value.items, flow, env)
            if value.tensors is not None:
                return self.merged(value.how, value.tensors)
            parts = _bundle(flow)
            if value.how == "concat":  # at the finest scale
                parts = tuple(sorted(parts, key=lambda part: part.scale, reverse=True))
            return self.merged(value.how, parts)
        if isinstance(value, Parallel):
            return self.parallel(value, flow, env)
        if isinstance(value, Side):
            return self.aside(value, flow, env)
        raise Wrong(f"{shown(value)} in the place of an operator")

    def gathered(self, how: str, items: Sequence[Any], flow: Any, env: Env) -> Any:
        """What operators make of what comes in, and tensors, as one."""
        loose = any(isinstance(item, Items) for item in items)
        every = [one for item in items for one in (item if isinstance(item, list) else [item])]
        made = [self.apply(item, flow, env) for item in every]
        if how == "branches":
            return _branches(Items(made) if loose else made)
        parts = [part for one in made for part in (one if isinstance(one, tuple) and how == "concat" else (one,))]
        return self.together(how, parts, flow, any(map(_starts_anew, items)))

    def together(self, how: str, parts: Sequence[Any], flow: Any, anew: bool) -> Any:
        """The tensors merged. Where nothing comes in, and none of them stands for itself, nothing is asked for."""
        if anew or not _is_absent(flow) or any(part is POISON or not _is_absent(part) for part in parts):
            return self.merged(how, parts)
        return next((part for part in parts if part is not None), None)

    def starts_anew(self, term: Any, env: Env) -> bool:
        """Whether a term of a sum starts from a tensor with a name."""
        first = term.steps[0] if isinstance(term, syntax.Pipe) else term
        while isinstance(first, syntax.Index):
            first = first.base
        if not isinstance(first, syntax.Name):
            return False
        found = env.scope.find(first.name)
        if found is None and first.name not in env.labels.named:
            return False
        return _starts_anew(env.labels.named[first.name] if found is None else found[0])

    def parallel(self, value: Parallel, flow: Any, env: Env) -> Any:
        out: list[Map | None] = []
        for branch in flow if isinstance(flow, tuple) else (flow,):
            if branch is POISON:
                raise Hurt
            if _is_absent(branch):
                out.append(None)
                continue
            scope = Scope(value.env.scope)
            scope.names["width"] = branch.channels, False
            scope.names["scale"] = plain(branch.scale), False
            path = join(value.path, f"[{shown(plain(branch.scale))}]")
            inner = value.env.but(scope=scope, path=path, incoming=branch, names={}, memories=env.memories)
            made = self.body(value.body.items, branch, inner)
            if made is POISON:
                return POISON
            out += made if isinstance(made, tuple) else (made,)
        return Loose(out) if isinstance(flow, Loose) else tuple(out)

    def aside(self, value: Side, flow: Any, env: Env) -> Any:
        """What comes in. What the body makes of it is there, but outside nothing is as if it had been run."""
        if flow is POISON:
            raise Hurt
        if isinstance(flow, tuple):
            raise Wrong("several branches come into an auxiliary")
        if not is_number(value.weight) or value.weight <= 0:
            raise Wrong(f"the weight {shown(value.weight)}")
        if _is_absent(flow):
            return flow
        layers, noted, made_before = len(self.layers), len(self.noted), next(self.numbers)
        read = set(self.read)
        fields, history = ({key: list(values) for key, values in kept.items()} for kept in (self.fields, self.history))
        memories = (*env.memories, (value.memory, {}))
        if value.body is None:
            side = self.apply(value.operator, flow, env.but(memories=memories))
        else:
            side = self.body(value.body.items, flow, value.env.but(path=value.path, names={}, memories=memories))
        self.layers[layers:] = [replace(layer, aside=True) for layer in self.layers[layers:]]
        self.read, self.fields, self.history = read, fields, history
        while len(self.noted) > noted:
            self.noted.pop().tensors.pop()
        if side is POISON:
            raise Hurt
        if isinstance(side, tuple):
            raise Wrong("the body of an auxiliary ends in branches")
        if _is_absent(side):  # no architecture, or a mistake where it can't be otherwise
            self.member = False
            raise Wrong("the body of an auxiliary ends in nothing")
        if side.number < made_before:
            raise Wrong("the body of an auxiliary makes nothing")
        self.layers.append(Layer("auxiliary", (("weight", value.weight),), flow.size, flow.size, 0, 0))
        return replace(flow, label="")

    def use(self, value: Use, operator: syntax.Operator, flow: Any, env: Env) -> Any:
        scope = Scope(self.top.scope)
        for name, (argument, fixed) in value.arguments.items():
            scope.names[name] = argument, fixed
        inner = Env(
            scope,
            value.path,
            flow,
            operator.name.name,
            memories=(*env.memories, (value.memory, {})),
        )
        body = operator.body
        if isinstance(body, syntax.Block):
            return self.body(body.items, flow, inner)
        if isinstance(body, syntax.Repeat):
            return self.repeat(body, flow, inner)
        if isinstance(body, syntax.Call) and body.function.name in DECIDING:
            return self.apply(self.value(body, inner), flow, inner)
        return self.step(body, flow, inner.but(names=step_names([body])))

    def layer(self, op: str, arguments: Mapping[str, Any], x: Map) -> Map:
        y, layer = applied(op, arguments, x)
        if x.gone:
            return replace(y, gone=True)
        self.read.add(x.number)
        if not y.gone:
            self.layers.append(layer)
        return replace(y, number=next(self.numbers), label="")

    def merged(self, how: str, parts: Sequence[Any]) -> Any:
        """The sum (or the like) of those tensors that are there. Where none is, this is no architecture."""
        if any(part is POISON for part in parts):
            return POISON
        there = [part for part in parts if part is not None and not (isinstance(part, Map) and part.gone)]
        if not all(isinstance(part, Map) for part in there):
            raise Wrong("what is no tensor is merged")
        if not there:
            self.member = False
            return next((part for part in parts if part is not None), None)
        first, *others = there
        for other in others:
            if (other.height is None) != (first.height is None):
                raise Wrong("a map and a vector are merged")
            if how != "concat" and other.channels != first.channels:
                raise Wrong(f"{first.channels} and {other.channels} channels are merged")
            if how == "sum" and other.scale != first.scale:
                raise Wrong(f"{first.channels} at {first.scale} and {other.channels} at {other.scale} are merged")
        if not others:
            return first
        self.read |= {part.number for part in there}
        channels = sum(part.channels for part in there) if how == "concat" else first.channels
        return replace(first, channels=channels, number=next(self.numbers), label="")

    # expressions

    def value(self, node: Any, env: Env, path: str = "") -> Any:
        self.visited.add((node.span.start, node.span.end))
        return _VALUE[type(node)](self, node, env, path or env.path)

    def number(self, node: Any, env: Env, path: str = "") -> Any:
        value = self.value(node, env, path)
        if isinstance(value, Units):
            return len(value.kept)
        if not is_number(value):
            raise Wrong(f"{shown(value)} in the place of a number")
        return value

    def condition(self, node: Any, env: Env, path: str = "") -> bool:
        value = self.value(node, env, path)
        if not isinstance(value, bool):
            raise Wrong(f"{shown(value)} in the place of a condition")
        return value

    def items(self, node: Any, env: Env, path: str = "") -> list[Any]:
        value = self.value(node, env, path)
        if isinstance(value, dict):
            return list(value)
        if isinstance(value, tuple):
            return _listed(value)
        if not isinstance(value, list):
            raise Wrong(f"{shown(value)} in the place of a list")
        there = [i for i, item in enumerate(value) if not _is_absent(item)]
        if len(there) == len(value):
            return value
        known = not isinstance(value, Items)
        return Items([value[i] for i in there], there if known else None, len(value) if known else None, anew=True)

    def literal(self, node: syntax.Number, env: Env, path: str) -> Any:
        return node.value

    def string(self, node: syntax.String, env: Env, path: str) -> Any:
        return node.value

    def name(self, node: syntax.Name, env: Env, path: str) -> Any:
        word = node.name
        found = env.scope.find(word)
        if found is not None:
            if found[0] is POISON:
                raise Hurt
            return found[0]
        if word in env.labels.named:
            return env.labels.named[word]
        tensors = [tensor for tensor in env.labels.tensors if tensor is POISON or not tensor.gone]
        if word == "earlier":
            return Items(tensors, anew=True)
        if word == "unused":
            unread = [tensor for tensor in tensors if tensor is POISON or tensor.number not in self.read]
            return Items(unread, anew=True)
        if word == "inputs":
            return self.inputs(env)
        if word == "at":
            return plain(self.incoming_map(env).scale)
        if word in ("true", "false"):
            return word == "true"
        if word in TOTALS and self.totals:
            return self.totals[word]
        return Word(word)

    def incoming(self, node: syntax.Incoming, env: Env, path: str) -> Any:
        return self.incoming_map(env).channels

    def inputs(self, env: Env) -> list[Any]:
        """What comes in around this: one tensor, or the branches that are there."""
        return _listed(env.incoming) if isinstance(env.incoming, tuple) else [self.incoming_map(env)]

    def incoming_map(self, env: Env) -> Map:
        if env.incoming is POISON:
            raise Hurt
        if not isinstance(env.incoming, Map):
            raise Wrong("nothing comes in")
        return env.incoming

    def listed(self, node: syntax.List, env: Env, path: str, before: int = 0) -> list[Any]:
        out: list[Any] = []
        loose = False
        for i, item in enumerate(node.items, before):
            value = self.value(item, env, join(path, f"[{i}]"))
            out.extend(value if isinstance(item, syntax.Range) else [value])
            loose = loose or (isinstance(item, syntax.Range) and isinstance(value, Items))
        return Items(out) if loose else out

    def ranged(self, node: syntax.Range, env: Env, path: str) -> list[Any]:
        first = self.number(node.first, env, join(path, "first"))
        last = self.number(node.last, env, join(path, "last"))
        step = 1 if node.step is None else self.number(node.step, env)
        if step <= 0 or last < first:
            raise Wrong(f"the range {first}..{last} step {step}")
        items = [plain(first + i * step) for i in range(math.floor(Fraction(last - first) / step) + 1)]
        if is_fixed(node, env.scope):
            return items
        return Items(items, range(len(items)) if is_fixed(node.first, env.scope) else None)

    def size(self, node: syntax.Size, env: Env, path: str) -> tuple[Any, ...]:
        return tuple([self.value(part, env, path) for part in node.parts])

    def comprehension(self, node: syntax.Comprehension, env: Env, path: str) -> list[Any]:
        rows, source = self.rows(node, env, path)
        made = [
            self.value(node.body, row, join(path, place)) for row, place in zip(rows, places_of(source), strict=True)
        ]
        if not isinstance(source, Items):
            return made
        first = node.body.steps[0] if isinstance(node.body, syntax.Pipe) else node.body
        anew = isinstance(first, syntax.Name) and first.name == node.binds[0].name and source.anew
        return Items(made, source.places, source.size, anew)

    def rows(self, node: syntax.Comprehension, env: Env, path: str) -> tuple[list[Env], list[Any]]:
        """Where the values of a comprehension are made, and a list with items at their places."""
        rows = [env]
        places: list[Any] = [None]
        for bind in node.binds:
            grown: list[Env] = []
            loose = isinstance(places, Items)
            for row in rows:
                fixed = has_fixed_items(bind.source, row.scope)
                items = self.items(bind.source, row, path)
                loose = loose or isinstance(items, Items)
                for item in items:
                    scope = Scope(row.scope)
                    scope.names[bind.name] = item, fixed
                    grown.append(row.but(scope=scope))
            rows, places = grown, Items(grown) if loose else grown
            if len(node.binds) == 1:
                places = items
        return rows, places

    def block(self, node: syntax.Block, env: Env, path: str) -> Any:
        if not node.items or not all(isinstance(item, syntax.Named) for item in node.items):
            return Text(node, env, path)
        out: dict[Any, Any] = {}
        for item in node.items:
            assert isinstance(item, syntax.Named)
            key = Word(item.key.name) if isinstance(item.key, syntax.Name) else self.value(item.key, env, path)
            if key in out:
                raise Wrong(f"the key {shown(key)} stands twice in a record")
            step = key.text if isinstance(key, Word) else f"[{shown(key)}]"
            out[key] = self.value(item.value, env, join(path, step))
        return out

    def unary(self, node: syntax.Unary, env: Env, path: str) -> Any:
        if node.operator == "not":
            return not self.condition(node.operand, env, path)
        return -self.number(node.operand, env, path)

    def binary(self, node: syntax.Binary, env: Env, path: str) -> Any:
        operator = node.operator
        if operator in ("and", "or", "implies"):
            return self.logic(node, env, path)
        if operator == "in":
            left = self.value(node.left, env, path)
            if isinstance(node.right, syntax.Range) and any(
                isinstance(n, syntax.Name) and n.name in TOTALS for n in _walk(node.left)
            ):
                return self.number(node.right.first, env) <= left <= self.number(node.right.last, env)
            items = self.items(node.right, env, path)
            return any(alike(left, item) for item in items)
        left = self.value(node.left, env, path)
        if operator == "+" and isinstance(left, list) and isinstance(node.right, syntax.List):
            right: Any = self.listed(node.right, env, path, 0 if isinstance(left, Items) else len(left))
        else:
            right = self.value(node.right, env, path)
        if operator in ("==", "!="):
            return alike(left, right) == (operator == "==")
        if operator == "+" and isinstance(left, list) and isinstance(right, list):
            return self.joined(left, right)
        nothing = left == right == Word("none")
        if operator == "+" and (nothing or isinstance(left, Operator) or isinstance(right, Operator)):
            return Terms((left, right))
        a, b = (len(side.kept) if isinstance(side, Units) else side for side in (left, right))
        if not is_number(a) or not is_number(b):
            raise Wrong(f"{shown(a)} {operator} {shown(b)}")
        return _calculated(operator, a, b)

    def joined(self, left: list[Any], right: list[Any]) -> list[Any]:
        if not isinstance(left, Items) and not isinstance(right, Items):
            return left + right
        anew = _starts_anew(left) or _starts_anew(right)
        sizes = [side.size if isinstance(side, Items) else len(side) for side in (left, right)]
        places = [side.places if isinstance(side, Items) else range(len(side)) for side in (left, right)]
        if sizes[0] is None or places[0] is None or places[1] is None:
            return Items([*left, *right], anew=anew)
        moved = [*places[0], *(sizes[0] + place for place in places[1])]
        return Items([*left, *right], moved, None if sizes[1] is None else sizes[0] + sizes[1], anew)

    def logic(self, node: syntax.Binary, env: Env, path: str) -> bool:
        """Both sides decide; where the left one tells, the right one need not have a value."""
        left = self.condition(node.left, env, path)
        told = left if node.operator == "or" else not left
        if not told:
            return self.condition(node.right, env, path)
        if not is_fixed(node.left, env.scope):
            try:
                self.condition(node.right, env, path)
            except (Wrong, Hurt):
                pass
        return node.operator != "and"

    def conditional(self, node: syntax.If, env: Env, path: str) -> Any:
        return self.value(node.then if self.condition(node.condition, env, path) else node.otherwise, env, path)

    def case(self, node: syntax.Match, env: Env, path: str = "") -> tuple[str, syntax.Expr]:
        """The alternative that is taken: its label and what it says."""
        head = self.value(node.head, env, path)
        for item in node.cases.items:
            assert isinstance(item, syntax.Named)
            if isinstance(item.key, syntax.Else):
                return "else", item.value
            key = self.key(item.key, env)
            if kind_of(key) != kind_of(head) and not isinstance(head, Operator):
                raise Wrong(f"{shown(head)} meets the alternative {shown(key)}")
            if alike(head, key):
                return shown(key) if isinstance(key, Word | bool) else f"[{shown(key)}]", item.value
        raise Wrong(f"no alternative for {shown(head)}")

    def key(self, node: syntax.Expr, env: Env) -> Any:
        if isinstance(node, syntax.Name) and node.name not in ("true", "false"):
            return Word(node.name)
        return self.value(node, env)

    def match(self, node: syntax.Match, env: Env, path: str) -> Any:
        label, taken = self.case(node, env, path)
        alone = len(node.cases.items) == 1 or is_fixed(node.head, env.scope)
        return self.value(taken, env, path if alone else join(path, label))

    def field(self, node: syntax.Field, env: Env, path: str) -> Any:
        word = node.base.name if isinstance(node.base, syntax.Name) else ""
        if word and env.scope.find(word) is None and word not in env.labels.named:
            return list(self.fields.get((word, node.name.name), []))
        base = self.value(node.base, env, path)
        if isinstance(base, Map) and node.name.name in ("width", "scale"):
            return base.channels if node.name.name == "width" else plain(base.scale)
        if not isinstance(base, dict) or Word(node.name.name) not in base:
            raise Wrong(f"no entry {node.name.name}")
        return base[Word(node.name.name)]

    def index(self, node: syntax.Index, env: Env, path: str) -> Any:
        base = self.value(node.base, env, path)
        key = self.value(node.index, env, path)
        base = _listed(base) if isinstance(base, tuple) else base
        if isinstance(base, dict) and key in base:
            return base[key]
        if isinstance(base, list) and is_whole(key) and -len(base) <= key < len(base):
            return base[key]
        raise Wrong(f"no item {shown(key)}")

    def pipe(self, node: syntax.Pipe, env: Env, path: str) -> Any:
        return Steps([self.value(part, env, path) for part in node.steps])

    def text(self, node: syntax.Expr, env: Env, path: str) -> Any:
        return Text(node, env, path)

    # calls

    def call(self, node: syntax.Call, env: Env, path: str) -> Any:
        name = node.function.name
        found = env.scope.find(name)
        if found is not None and isinstance(found[0], Function):
            return self.function(found[0], node, env, path)
        operator = self.operators.get(name)
        if operator is not None:
            given, kept = self.arguments(operator.formals, node, env, path)
            return Use(name, operator, given, path, kept=kept)
        if name == "residual":
            return Text(node, env, path)
        if name == "parallel":
            assert node.body is not None
            return Parallel(node.body, env, path)
        if name == "auxiliary":
            bound = _bound(node, ["operator"], False)
            given = {key: self.value(value, env, join(path, key)) for key, value in bound.items()}
            return Side(node.body, given.get("operator"), given["weight"], env, path)
        if name in ("concat", "sum", "mean") and not node.arguments:
            return Gather(name, None, None)
        if name in ("concat", "sum", "mean") and all(isinstance(item, syntax.Named) for item in node.arguments or ()):
            (item,) = node.arguments or ()
            assert isinstance(item, syntax.Named)
            return Gather(name, None, self.items(item.value, env, join(path, "from")))
        if name in ("concat", "mean", "branches") or (name == "sum" and len(node.arguments or ()) > 1):
            return Gather(name, [self.value(item, env, path) for item in node.arguments or ()], None)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](self, node, env, path)
        if name not in PARAMETERS and found is not None:
            return self.again(found[0], node, env, path)
        names = list(PARAMETERS[name])
        given = {key: self.value(value, env, join(path, key)) for key, value in _bound(node, names, False).items()}
        check(name, given)
        return Use(name, None, given, path)

    def again(self, value: Any, node: syntax.Call, env: Env, path: str) -> Any:
        """An operator that was decided, with other arguments. What it decided stays."""
        if value is POISON:
            raise Hurt
        if value == Word("none"):
            return value
        if not isinstance(value, Use):
            raise Wrong(f"{shown(value)} takes no arguments")
        definition = value.definition
        names = list(PARAMETERS[value.name]) if definition is None else [f.name.name for f in definition.formals]
        given = node.arguments or ()
        if len([item for item in given if not isinstance(item, syntax.Named)]) > len(names):
            raise Wrong(f"{value.name} takes no such argument")
        bound = _bound(node, names, False)
        if not bound.keys() <= set(names):
            raise Wrong(f"{value.name} takes none of {', '.join(bound.keys() - set(names))}")
        if definition is None:
            changed = {key: self.value(one, env, join(path, key)) for key, one in bound.items()}
            check(value.name, changed)
            made = replace(value, arguments={**value.arguments, **changed})
        else:
            known = {key: one for key, one in value.arguments.items() if key in value.kept and key not in bound}
            arguments, kept = self.arguments(definition.formals, node, env, path, known=known)
            for key in arguments.keys() - known.keys() - bound.keys():
                (one, fixed), (before, _) = arguments[key], value.arguments[key]
                arguments[key] = _tied(one, before), fixed
            made = replace(value, arguments=arguments, kept=value.kept | kept)
        made.label = value.label
        return made

    def arguments(
        self,
        formals: Sequence[syntax.Formal],
        node: syntax.Call,
        env: Env,
        path: str,
        positional: bool = False,
        known: Mapping[str, tuple[Any, bool]] | None = None,
    ) -> tuple[dict[str, tuple[Any, bool]], frozenset[str]]:
        """The arguments of a call, and which of them stay when others change."""
        names = [formal.name.name for formal in formals]
        out: dict[str, tuple[Any, bool]] = dict(known or {})
        for key, value in _bound(node, names, positional).items():
            out[key] = self.value(value, env, join(path, key)), is_fixed(value, env.scope)
        if node.body is not None:
            out["body"] = Text(node.body, env, join(path, "body"), own_input=True), False
        kept = set(out)
        own = env.but(scope=Scope(self.top.scope))
        own.scope.names.update(out)
        for formal in formals:
            name = formal.name.name
            if name not in out:
                assert formal.default is not None
                before = self.asked
                value = self.value(formal.default, own, join(path, name))
                out[name] = value, is_fixed(formal.default, own.scope)
                own.scope.names[name] = out[name]
                if self.asked > before:
                    kept.add(name)
        for formal in formals:
            if formal.allowed is not None:
                allowed = self.value(formal.allowed, env.but(scope=Scope(self.top.scope)), join(path, formal.name.name))
                if not any(
                    kind_of(item) == kind_of(out[formal.name.name][0]) and item == out[formal.name.name][0]
                    for item in allowed
                ):
                    raise Wrong(f"`{formal.name.name}` is {shown(out[formal.name.name][0])}")
        return out, frozenset(kept)

    def function(self, function: Function, node: syntax.Call, env: Env, path: str) -> Any:
        given, _ = self.arguments(function.formals, node, env, path, positional=True)
        scope = Scope(function.env.scope)
        scope.names.update(given)
        return self.value(function.body, env.but(scope=scope), path)

    def oneof(self, node: syntax.Call, env: Env, path: str) -> Any:
        options = self.options(node, env, path)
        if not options:
            raise Wrong("nothing to choose from")
        index = 0 if len(options) == 1 else self.decide(env, path, node, "choice", range(len(options)))
        label, make = options[index]
        value = make()
        if isinstance(value, Operator):
            value.label = label
        return value

    def options(self, node: syntax.Call, env: Env, path: str) -> list[tuple[str, Callable[[], Any]]]:
        given = node.arguments or ()
        out: list[tuple[str, Callable[[], Any]]] = []
        if len(given) == 1 and not isinstance(given[0], syntax.Named):
            (only,) = given
            if isinstance(only, syntax.List) and not any(isinstance(item, syntax.Range) for item in only.items):
                return [("", self.later(item, env, join(path, f"[{i}]"))) for i, item in enumerate(only.items)]
            if isinstance(only, syntax.Comprehension):
                rows, _ = self.rows(only, env, path)
                return [("", self.later(only.body, row, join(path, f"[{i}]"))) for i, row in enumerate(rows)]
            step = only.function.name if isinstance(only, syntax.Call) else ""
            value = self.value(only, env, join(path, step))
            return [("", partial(_same, item)) for item in (value if isinstance(value, list) else [value])]
        for item in given:
            if isinstance(item, syntax.Range):
                out += [("", partial(_same, one)) for one in self.value(item, env, path)]
                continue
            label = ""
            node_of: Any = item
            if isinstance(item, syntax.Named):
                assert isinstance(item.key, syntax.Name)
                label, node_of = item.key.name, item.value
            step = label or (node_of.function.name if isinstance(node_of, syntax.Call) else "")
            out.append((label, self.later(node_of, env, join(path, step))))
        return out

    def later(self, node: Any, env: Env, path: str) -> Callable[[], Any]:
        return lambda: self.value(node, env, path)

    def manyof(self, node: syntax.Call, env: Env, path: str) -> Any:
        k_node, list_node = node.arguments or ()
        several = isinstance(k_node, syntax.Range)
        sizes = self.value(k_node, env) if several else [self.number(k_node, env)]
        if len(sizes) == 1 and not is_fixed(list_node, env.scope):
            return self.decided_items(sizes[0], list_node, node, env, path)
        items = self.value(list_node, env, path)
        if not isinstance(items, list):
            items = self.items(list_node, env, path)
        if not all(is_whole(k) and 0 <= k <= len(items) for k in sizes):
            raise Wrong(f"{shown(sizes)} of {len(items)} items")
        if len(sizes) > 1:
            chosen = self.some_of(items, node, env, path)
            if len(chosen) not in sizes:
                self.member = False
        elif sizes[0] == len(items):
            return items
        else:
            subsets = list(itertools.combinations(range(len(items)), sizes[0]))
            chosen = self.decide(env, path, node, "subset", subsets)
        return Items([items[i] for i in chosen], chosen, len(items), _starts_anew(items))

    def decided_items(self, k: Any, listed: Any, node: syntax.Call, env: Env, path: str) -> Any:
        """Some items of a list in which something is decided: for those alone that are chosen."""
        makers = [
            make for _, make in self.options(syntax.Call(node.function, (listed,), None, span=node.span), env, path)
        ]
        if not is_whole(k) or not 0 <= k <= len(makers):
            raise Wrong(f"{shown(k)} of {len(makers)} items")
        if k == len(makers):
            return [make() for make in makers]
        chosen = self.decide(env, path, node, "subset", list(itertools.combinations(range(len(makers)), k)))
        made = [makers[i]() for i in chosen]
        return Items(made, chosen, len(makers), _starts_anew(made))

    def some_of(self, items: list[Any], node: syntax.Call, env: Env, path: str) -> list[int]:
        """Which items are taken: a choice for each, which goes by the item's name."""
        names = [item.label if isinstance(item, Map) else shown(item) for item in items]
        out = []
        for i, name in enumerate(names):
            step = f"[{name}][{names[:i].count(name)}]" if names.count(name) > 1 else f"[{name}]"
            if self.decide(env, join(path, step), node, "choice", range(2)):
                out.append(i)
        return out

    def permute(self, node: syntax.Call, env: Env, path: str) -> Any:
        *size, given = node.arguments or ()
        items = self.items(given, env, path)
        if size:
            return self.arranged(self.number(size[0], env), items, node, env, path)
        orders: dict[Any, tuple[int, ...]] = {}
        for order in itertools.permutations(range(len(items))):
            orders.setdefault(tuple(items[i] for i in order), order)
        if len(orders) < 2:
            return items
        return [items[i] for i in self.decide(env, path, node, "order", list(orders.values()))]

    def arranged(self, k: Any, items: list[Any], node: syntax.Call, env: Env, path: str) -> list[Any]:
        """A choice for each place. That no item is at two of them is required."""
        if not is_whole(k) or not 0 <= k <= len(items) or len(set(items)) < len(items):
            raise Wrong(f"{shown(k)} of {len(items)} items in order")
        if len(items) == 1:
            return items[:k]
        options = range(len(items))
        chosen = [self.decide(env, join(path, f"[{i}]"), node, "choice", options) for i in range(k)]
        if len(set(chosen)) < k:
            self.member = False
        return [items[i] for i in chosen]

    def units(self, node: syntax.Call, env: Env, path: str) -> Any:
        (given,) = node.arguments or ()
        n = self.number(given, env)
        if not is_whole(n) or n < 1:
            raise Wrong(f"{shown(n)} units")
        subsets = [kept for size in range(n + 1) for kept in itertools.combinations(range(n), size)]
        return Units(n, self.decide(env, path, node, "units", subsets))

    def rounding(self, node: syntax.Call, env: Env, path: str) -> Any:
        (given,) = node.arguments or ()
        value = Fraction(self.number(given, env, path))
        how = node.function.name
        return math.floor(value) if how == "floor" else math.ceil(value) if how == "ceil" else math.floor(value + HALF)

    def divisible(self, node: syntax.Call, env: Env, path: str) -> Any:
        width_node, d_node = node.arguments or ()
        width, d = self.number(width_node, env, path), self.number(d_node, env)
        if not is_whole(d) or d < 1:
            raise Wrong(f"divisible by {shown(d)}")
        nearest = d * math.floor(Fraction(width) / d + HALF)
        return nearest + d if 10 * nearest < 9 * width else nearest

    def level_of(self, node: syntax.Call, env: Env, path: str) -> Any:
        (given,) = node.arguments or ()
        scale = Fraction(self.number(given, env, path))
        level = scale.denominator.bit_length() - 1
        if scale != Fraction(1, 2**level):
            raise Wrong(f"the level of {scale}")
        return level

    def extreme(self, node: syntax.Call, env: Env, path: str) -> Any:
        given = node.arguments or ()
        items = self.items(given[0], env, path) if len(given) == 1 else [self.number(g, env, path) for g in given]
        if not items or not all(is_number(item) for item in items):
            raise Wrong(f"{node.function.name} of what are no numbers")
        return min(items) if node.function.name == "min" else max(items)

    def total(self, node: syntax.Call, env: Env, path: str) -> Any:
        (given,) = node.arguments or ()
        items = self.items(given, env, path)
        if node.function.name == "length":
            return len(items)
        if node.function.name == "sum":
            if not items:
                return Nothing(0)
            if any(isinstance(item, Operator | Map | tuple) or item is None for item in items):
                return Gather("sum", [items], None)
        kind = "number" if node.function.name == "sum" else "truth"
        if not all(kind_of(item) == kind for item in items):
            raise Wrong(f"{node.function.name} of other things")
        return plain(sum(items)) if kind == "number" else sum(1 for item in items if item)

    def part(self, node: syntax.Call, env: Env, path: str) -> Any:
        list_node, n_node = node.arguments or ()
        base, n = self.value(list_node, env, path), self.number(n_node, env)
        if not is_whole(n) or n < 0 or not isinstance(base, list | dict):
            raise Wrong(f"{node.function.name} of {shown(n)}")
        items = list(base.items()) if isinstance(base, dict) else base
        cut = items[:n] if node.function.name == "take" else items[len(items) - n :] if n < len(items) else items
        if isinstance(base, Items):
            return Items(cut, anew=base.anew)
        return dict(cut) if isinstance(base, dict) else cut

    def previous(self, node: syntax.Call, env: Env, path: str) -> Any:
        """The value of the copy before: where a `let` of this name was last made before the run of the innermost body
        that makes it began."""
        name, otherwise = node.arguments or ()
        assert isinstance(name, syntax.Name) and isinstance(otherwise, syntax.Named)
        for time, value in reversed(self.history.get((env.operator, name.name), [])):
            if name.name not in env.starts or time < env.starts[name.name]:
                return value
        return self.value(otherwise.value, env, path)


HALF = Fraction(1, 2)


def _calculated(operator: str, a: Any, b: Any) -> Any:
    match operator:
        case "+":
            return plain(a + b)
        case "-":
            return plain(a - b)
        case "*":
            return plain(a * b)
        case "/":
            if b == 0:
                raise Wrong("division by zero")
            return plain(Fraction(a) / b)
        case "^":
            if (a == 0 and b < 0) or not is_whole(b):
                raise Wrong(f"{a} ^ {b}")
            return plain(Fraction(a) ** b)
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
    return a >= b


def _bound(node: syntax.Call, names: Sequence[str], positional: bool) -> dict[str, syntax.Expr]:
    """The expressions of a call's arguments by the names of the parameters."""
    out: dict[str, syntax.Expr] = {}
    for position, item in enumerate(node.arguments or ()):
        if isinstance(item, syntax.Named):
            assert isinstance(item.key, syntax.Name)
            out[item.key.name] = item.value
        elif position == 0 or positional:
            out[names[position]] = item  # type: ignore[assignment]
        else:
            assert isinstance(item, syntax.Name)
            out[item.name] = item
    return out


def _bundle(flow: Any) -> tuple[Map, ...]:
    """The branches of a flow that are there.

    Raises:
        Hurt: one of them hangs on what went wrong.
    """
    parts = flow if isinstance(flow, tuple) else (flow,)
    if any(part is POISON for part in parts):
        raise Hurt
    return tuple([part for part in parts if not _is_absent(part)])


def _is_absent(flow: Any) -> bool:
    """Whether there is no tensor."""
    return flow is None or (isinstance(flow, Map) and flow.gone)


def _branches(items: list[Any]) -> Any:
    """A list of tensors, and of sets of them, as one set."""
    for item in items:
        if item is POISON:
            raise Hurt
        if not isinstance(item, Map | tuple) and item is not None:
            raise Wrong(f"{shown(item)} in the place of a tensor")
    parts = [part for item in items for part in (item if isinstance(item, tuple) else (item,))]
    if isinstance(items, Items) or any(isinstance(item, Loose) for item in items):
        return Loose(parts)
    return tuple(parts) if parts else None


def _listed(branches: tuple[Any, ...]) -> list[Any]:
    """The branches of a set that are there."""
    if any(branch is POISON for branch in branches):
        raise Hurt
    there = [i for i, branch in enumerate(branches) if not _is_absent(branch)]
    items = [branches[i] for i in there]
    if isinstance(branches, Loose):
        return Items(items, anew=True)
    return items if len(items) == len(branches) else Items(items, there, len(branches), anew=True)


def _starts_anew(value: Any) -> bool:
    """Whether an operator starts from a tensor, and not from what comes in."""
    if isinstance(value, Items):
        return value.anew
    if isinstance(value, list):
        return any(map(_starts_anew, value))
    return _starts_anew(value.parts[0]) if isinstance(value, Steps) else value is None or isinstance(value, Map | tuple)


def _same(value: Any) -> Any:
    return value


def _terms(node: syntax.Expr) -> list[syntax.Expr]:
    if isinstance(node, syntax.Binary) and node.operator == "+":
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _conditions(node: Any) -> Iterator[Any]:
    if isinstance(node, syntax.Binary) and node.operator == "and":
        yield from _conditions(node.left)
        yield from _conditions(node.right)
    else:
        yield node


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in _children(node):
        yield from _walk(child)
    if isinstance(node, syntax.Call):
        for item in node.arguments or ():
            yield from _walk(item)


_VALUE: Mapping[type, Callable[[_Run, Any, Env, str], Any]] = {
    syntax.Number: _Run.literal,
    syntax.String: _Run.string,
    syntax.Name: _Run.name,
    syntax.Incoming: _Run.incoming,
    syntax.List: _Run.listed,
    syntax.Range: _Run.ranged,
    syntax.Size: _Run.size,
    syntax.Comprehension: _Run.comprehension,
    syntax.Block: _Run.block,
    syntax.Unary: _Run.unary,
    syntax.Binary: _Run.binary,
    syntax.If: _Run.conditional,
    syntax.Match: _Run.match,
    syntax.Field: _Run.field,
    syntax.Index: _Run.index,
    syntax.Pipe: _Run.pipe,
    syntax.Repeat: _Run.text,
    syntax.For: _Run.text,
    syntax.Call: _Run.call,
}

_FUNCTIONS: Mapping[str, Callable[[_Run, Any, Env, str], Any]] = {
    "oneof": _Run.oneof,
    "manyof": _Run.manyof,
    "permute": _Run.permute,
    "units": _Run.units,
    "floor": _Run.rounding,
    "ceil": _Run.rounding,
    "round": _Run.rounding,
    "divisible": _Run.divisible,
    "level_of": _Run.level_of,
    "min": _Run.extreme,
    "max": _Run.extreme,
    "sum": _Run.total,
    "count": _Run.total,
    "length": _Run.total,
    "take": _Run.part,
    "last": _Run.part,
    "previous": _Run.previous,
}
