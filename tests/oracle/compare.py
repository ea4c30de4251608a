"""Holds the compiler to what the interpreter says of a program."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from nasdsl.compiler import extremes, syntax
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.decision import FixedUnits
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.engine.budget import UnreadableBudget
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.parse import parse
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population
from nasdsl.compiler.relaxable import unrelaxable
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.values.plain import Symbol
from tests.odds import ByHand
from tests.oracle.interpret import Meaning, Member, TooMany, meaning
from tests.oracle.layers import PARAMETERS, Units, Word

MOST = 400
"""Architectures of a program that are run one by one."""

RESTRICTIONS: Mapping[str, str] = {
    "not-constant": "what is chosen from, repeated or taken must not depend on a decision",
    "mixed-options": "a choice is among values of one kind",
    "unknown-field": "an operator that the network does not use has no values",
}
"""Codes of diagnostics that refuse programs with a meaning, as the language says it does."""

WITNESS = "for example with"
"""How the help begins of a mistake that some architectures make; one that hangs on no decision is told without."""


@dataclass
class Outcome:
    """What became of a program.

    Attributes:
        state: `equal`, `refused` (and rightly so), `restricted`, `unsure`, `large`, or `differs`.
        kind, detail: of the difference.
        members: how many architectures were compared.
    """

    state: str
    kind: str = ""
    detail: str = ""
    members: int = 0
    done: Counter[str] = field(default_factory=Counter)


class Differs(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def compared(text: str, seed: int, network: bool = False, most: int = MOST) -> Outcome:
    """Compares everything that is said of the last space of a program.

    Args:
        network: whether to build the supernet too and run some architectures.
        most: architectures of a program; larger ones are left out.
    """
    source = Source(text)
    try:
        tree = parse(source)
    except CompileError as problem:
        return Outcome("differs", "parse", str(problem))
    try:
        name = [item.name.name for item in tree.items if isinstance(item, syntax.Space | syntax.Derived)][-1]
        expected = meaning(tree, name, most)
    except TooMany:
        return Outcome("large")
    except Exception as problem:
        return Outcome("differs", f"interpreter {type(problem).__name__}", f"{problem!r}")
    done: Counter[str] = Counter()
    try:
        graph = _elaborated(text, name, tree, expected)
        if isinstance(graph, Outcome):
            return graph
        _Comparison(text, name, graph, expected, Random(seed), done).run(network)
    except UnreadableBudget:
        return Outcome("restricted", kind="budget")
    except Differs as found:
        return Outcome("differs", found.kind, found.detail, done=done)
    except Exception as problem:  # whatever it is, it is the finding
        return Outcome("differs", f"internal {type(problem).__name__}", f"{problem!r}", done=done)
    return Outcome("equal", members=len(expected.members), done=done)


def _elaborated(text: str, name: str, tree: syntax.File, expected: Meaning) -> Graph | Outcome:
    bad = expected.wrong[0] if expected.wrong else "" if expected.members else "no architecture"
    if not bad and not any(member.inside for member in expected.members):
        bad = "nothing inside the budgets"
    try:
        space = elaborate(Source(text), name)
    except CompileError as problem:
        first = problem.diagnostics[0]
        if bad:
            return Outcome("refused", kind=first.code)
        if expected.unsure:
            return Outcome("unsure")
        if expected.excused and not first.help.startswith(WITNESS):
            return Outcome("restricted", kind="told though a requirement excludes it")
        if _passed_by(first.span, tree, expected):
            return Outcome("restricted", kind="told though no architecture comes by")
        if first.code in RESTRICTIONS:
            return Outcome("restricted", kind=first.code)
        where = first.span.text if first.span else ""
        raise Differs(f"refused {first.code}", f"{first.message} | {where} | {first.help}") from None
    if bad:
        if any(warning.code == "unproven" for warning in space.warnings):
            return Outcome("restricted", kind="unproven")
        raise Differs("accepted", bad)
    if expected.unsure:
        return Outcome("unsure")
    return space.graph


def _passed_by(span: Span | None, tree: syntax.File, expected: Meaning) -> bool:
    """Whether a mistake is that of a value in the text which no run came by."""
    if span is None:
        return False
    place = span.start, span.end
    values = {(node.span.start, node.span.end) for node in walk(tree) if node.span.source == span.source}
    return place in values - expected.visited


_INDEX = r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
_BRANCH = re.compile(f"(?<=parallel)(?:{_INDEX})+")
_SUFFIX = re.compile(r"\[(\d+)\]$")
_PLACE = "[~]"
_ANY_PLACE = re.compile(re.escape(re.escape(_PLACE)))

Key = frozenset[tuple[Any, ...]]


def _alike(path: str) -> str:
    """The path without the names of branches: these hang on whether choices change the scale."""
    return _BRANCH.sub(lambda found: "[*]" * len(re.findall(_INDEX, found[0])), path)


class _Comparison:
    """One graph against the architectures that it should have."""

    def __init__(self, text: str, space: str, graph: Graph, expected: Meaning, rng: Random, done: Counter[str]) -> None:
        self.text, self.space, self.graph, self.rng, self.done = text, space, graph, rng, done
        self.members = expected.members
        self.paths: dict[int, set[str]] = {}
        for member in self.members:
            for answer in member.answers:
                self.paths.setdefault(answer.place, set()).add(_alike(answer.path))
        self.names = {path: self._name(path) for path in graph.decisions}
        self.by_key = {self.expected_key(member): member for member in self.members}

    # keys: an architecture as what is decided where, without the numbers that make paths unique

    def _name(self, path: str) -> tuple[str, tuple[int, ...], int]:
        """The path less such a number, the number, and where the decision stands in the text.

        Where the interpreter does not know an item's place among those that are not there, it is one of the numbers.
        """
        span = self.graph.decisions[path].span
        assert span is not None
        known = self.paths.get(span.start, set())
        suffix = _SUFFIX.search(path)
        ends = [(path, 0), *([(path[: suffix.start()], int(suffix[1]))] if suffix is not None else [])]
        for end, number in ends:
            if _alike(end) in known:
                return _alike(end), (number,), span.start
            for other in known:
                found = re.fullmatch(_ANY_PLACE.sub(r"\\[(\\d+)\\]", re.escape(other)), _alike(end))
                if _PLACE in other and found is not None:
                    return other, (*map(int, found.groups()), number), span.start
        return _alike(path), (0,), span.start

    def key(self, architecture: Architecture) -> Key:
        found: dict[tuple[str, int], list[tuple[tuple[int, ...], Any]]] = {}
        for path, value in architecture.indices.items():
            name, number, place = self.names[path]
            found.setdefault((name, place), []).append((number, value))
        return frozenset(
            (name, i, value)
            for name, values in found.items()
            for i, (_, value) in enumerate(sorted(values, key=lambda one: one[0]))
        )

    def expected_key(self, member: Member) -> Key:
        found: dict[tuple[str, int], list[Any]] = {}
        for answer in member.answers:
            found.setdefault((_alike(answer.path), answer.place), []).append(answer.value)
        return frozenset((name, i, value) for name, values in found.items() for i, value in enumerate(values))

    # comparisons

    def run(self, network: bool) -> None:
        self.numbered()
        if len(self.by_key) < len(self.members):
            raise AssertionError("two runs of the interpreter are one architecture")
        self.counted()
        self.whole()
        self.costs()
        for architecture in self.some(3):
            self.layers(architecture)
        if self.rng.random() < 0.4:
            self.pinned()
        if self.rng.random() < 0.4:
            self.budgeted()
        if self.rng.random() < 0.15 and not unrelaxable(self.graph):
            self.odds()
        if network:
            self.built()

    def some(self, n: int) -> list[Architecture]:
        return self.rng.sample(self.architectures, min(n, len(self.architectures)))

    def numbered(self) -> None:
        """Count and numbers: from 0 to the size less one, each once, and back."""
        numbering = Numbering(self.graph)
        if numbering.total != len(self.members):
            raise Differs("count", f"{numbering.total}, and there are {len(self.members)}")
        self.architectures = [numbering.unrank(i) for i in range(numbering.total)]
        for i, architecture in enumerate(self.architectures):
            if numbering.rank(architecture) != i:
                raise Differs("rank", f"{architecture} has the number {i}, and then {numbering.rank(architecture)}")

    def counted(self) -> None:
        found = count(self.graph)
        if found.total != len(self.members):
            raise Differs("count", f"{found.total}, and there are {len(self.members)}")
        if not found.budgets_left_out:
            product = 1
            for factor in found.factors:
                product *= factor.total
            if product != found.total:
                raise Differs("factors", f"{found.factors} of {found.total}")

    def whole(self) -> None:
        """The architectures are those of the interpreter."""
        found = {self.key(architecture) for architecture in self.architectures}
        if found != self.by_key.keys():
            more, less = found - self.by_key.keys(), self.by_key.keys() - found
            raise Differs("members", f"more: {_few(more)}\nless: {_few(less)}")
        for architecture in self.some(2):
            if Architecture.of(self.graph, dict(architecture)) != architecture:
                raise Differs("architecture", f"{architecture}")
            again = Architecture.of(self.graph, json.loads(json.dumps(architecture.to_json())))
            if again != architecture:
                raise Differs("json", f"{architecture} and {again}")

    def costs(self) -> None:
        """Of every architecture, their extremes, and what is drawn."""
        population = Population(self.graph)
        if not population.exact:
            raise Differs("inexact", population.why)
        if population.total != len(self.members):
            raise Differs("count", f"{population.total} by the diagram, and there are {len(self.members)}")
        members = [self.by_key[self.key(architecture)] for architecture in self.architectures]
        matrix = population.diagram.encoding.encode(self.architectures)
        wanted = np.array([(member.macs, member.params) for member in members])
        found = population.costs(matrix)
        if (found != wanted).any():
            row = int((found != wanted).any(axis=1).argmax())
            raise Differs("costs", f"{self.architectures[row]}: {found[row]}, and it is {wanted[row]}")
        total = total_cost(self.graph)
        for column, (name, value) in enumerate((("macs", total.macs), ("params", total.params))):
            low, high = int(wanted[:, column].min()), int(wanted[:, column].max())
            for greatest, best in ((False, low), (True, high)):
                other = (extremes.greatest if greatest else extremes.least)(self.graph, value)
                one = population.extreme(name, greatest)
                for cost, architecture in ((other[0], other[1]), (one.cost, one.architecture)):
                    has = cost_of(self.graph, architecture.indices)[name]
                    if cost != best or has != best or self.key(architecture) not in self.by_key:
                        raise Differs("extremes", f"{name}: {cost}, it has {has}, and it is {best}")
            spread = population.spread(name)
            if not np.isclose(spread.mean, wanted[:, column].mean()):
                raise Differs("distribution", f"{name}: {spread.mean}, and it is {wanted[:, column].mean()}")
        inside = [
            architecture for architecture, member in zip(self.architectures, members, strict=True) if member.inside
        ]
        self.drawn(population, {self.key(architecture) for architecture in inside})

    def drawn(self, population: Population, inside: set[Key]) -> None:
        part = population.part({})
        if part.exact and part.count != len(inside):
            raise Differs("count inside", f"{part.count}, and there are {len(inside)}")
        n = 60 * len(inside) if len(inside) <= 12 else 50
        keys = Counter(map(self.key, population.diagram.encoding.decode(population.draw(n, self.rng.randrange(99)))))
        if not keys.keys() <= inside:
            raise Differs("draws", f"outside: {_few(keys.keys() - inside)}")
        if len(inside) <= 12 and keys.keys() != inside:
            raise Differs("draws", f"never: {_few(inside - keys.keys())}")

    def layers(self, architecture: Architecture) -> None:
        """The layers of one architecture."""
        pinned = pin(self.graph, architecture.indices)
        member = self.by_key[self.key(architecture)]
        if pinned.decisions:
            raise Differs("pin", f"{architecture} leaves {list(pinned.decisions)}")
        found = Counter(_layers(pinned))
        wanted = Counter((one.op, one.arguments, one.reads, one.gives, one.aside) for one in member.layers)
        if found != wanted:
            raise Differs("layers", f"{architecture}\nmore: {_few(found - wanted)}\nless: {_few(wanted - found)}")
        costs = cost_of(pinned, {})
        if (costs["macs"], costs["params"]) != (member.macs, member.params):
            raise Differs("costs", f"{architecture}, pinned: {costs}, and it is {member.macs}, {member.params}")
        self.done["layers"] += len(member.layers)

    def odds(self) -> None:
        """Under probabilities: what costs come to on average, which architectures are the likeliest, draws."""
        members = [self.by_key[self.key(architecture)] for architecture in self.architectures]
        by_hand = ByHand(
            self.graph,
            [architecture.indices for architecture in self.architectures],
            {"macs": [m.macs for m in members], "params": [m.params for m in members]},
            [member.inside for member in members],
        )
        try:
            by_hand.check(Odds(self.graph), self.rng.randrange(1 << 30))
        except AssertionError as problem:
            raise Differs("odds", f"{problem}") from None
        self.done["odds"] += 1

    def pinned(self) -> None:
        """A space with some decisions set, as their paths are printed, has those architectures that agree."""
        (architecture,) = self.some(1)
        if not architecture:
            return
        kept: dict[str, set[str]] = {}
        pins = []
        for path in self.rng.sample(list(architecture), min(len(architecture), self.rng.choice((1, 1, 2)))):
            place, paths = self.place(path)
            text, values = self.pin_value(path, architecture.indices[path])
            if kept.keys().isdisjoint(paths) and all(
                value in self.described(path, other) for other in paths for value in values
            ):
                pins.append(self.written(place, text))
                kept.update(dict.fromkeys(paths, values))
        text = f"{self.text}\nspace pinned = {self.space} with {{\n" + "\n".join(pins) + "\n}\n"
        told = [self.words(self.graph, a) for a in self.architectures]
        inside = [a for a in told if all(path not in a or a[path] in values for path, values in kept.items())]
        open_ones = {path for path, values in kept.items() if len(values) > 1}
        wanted = {frozenset((p, v) for p, v in a.items() if p not in kept or p in open_ones) for a in inside}
        try:
            graph = elaborate(Source(text), "pinned").graph
        except CompileError as problem:
            keys = [self.key(a) for a, words in zip(self.architectures, told, strict=True) if words in inside]
            if any(self.by_key[key].inside for key in keys):
                first = problem.diagnostics[0]
                raise Differs("pin refused", f"{pins}: {first.code} {first.message}") from None
            return
        numbering = Numbering(graph)
        found = [frozenset(self.words(graph, numbering.unrank(i)).items()) for i in range(numbering.total)]
        if set(found) != wanted or len(found) != len(wanted):
            raise Differs("pins", f"{pins}: {len(found)}, and there are {len(wanted)}")
        self.done["pins"] += 1

    def words(self, graph: Graph, architecture: Architecture) -> dict[str, str]:
        return {path: graph.decisions[path].describe(value) for path, value in architecture.indices.items()}

    def described(self, path: str, other: str) -> list[str]:
        """The values of another decision that stands at the same place in the text; none where it is another kind."""
        decision = self.graph.decisions[other]
        if decision.kind != self.graph.decisions[path].kind:
            return []
        return [decision.describe(value) for value in decision.values()]

    def place(self, path: str) -> tuple[str, list[str]]:
        """How a pin may name a decision, and which ones it then names."""
        short = re.sub(_INDEX, "", path)
        alike = [other for other in self.graph.decisions if re.sub(_INDEX, "", other) == short]
        if short != path and short not in self.graph.decisions and self.rng.random() < 0.4 and "[" not in short:
            if short.startswith(".") or short in ("", "for", "repeat", "else"):
                return path, [path]
            return short, alike
        return path, [path]

    def written(self, place: str, value: str) -> str:
        """A pin, or one in a record under the first part of its path; there `operator` begins a definition."""
        head, dot, rest = place.partition(".")
        if dot and "[" not in head and head != "else" and self.rng.random() < 0.3 and not rest.startswith("operator."):
            return f"{head}: {{ {rest}: {value} }}"
        return f"{place}: {value}"

    def pin_value(self, path: str, value: Any) -> tuple[str, set[str]]:
        decision = self.graph.decisions[path]
        words = {decision.describe(value)}
        if decision.kind == "choice" and decision.n > 2 and self.rng.random() < 0.5:
            words.add(decision.describe(self.rng.randrange(decision.n)))
        text = ", ".join(sorted(words))
        return (f"oneof({text})" if len(words) > 1 else text), words

    def budgeted(self) -> None:
        """A budget cuts where it should, whichever measure it is on."""
        name = self.rng.choice(("macs", "params"))
        costs = sorted(getattr(member, name) for member in self.members)
        low, high = sorted(self.rng.choice(costs) + self.rng.choice((0, 0, -1, 1)) for _ in range(2))
        kind = self.rng.choice(
            (f"{name} <= {high}", f"{name} <= {high}", f"{name} >= {low}", f"{name} in {low}..{high}")
        )
        if name == "macs" and self.rng.random() < 0.2:
            kind = kind.replace("macs", "flops / 2")
        if "<=" in kind:
            low = 0
        elif ">=" in kind:
            high = costs[-1]
        text = f"{self.text}\nspace tight = {self.space} with {{ require {kind} }}\n"
        inside = {key for key, m in self.by_key.items() if m.inside and low <= getattr(m, name) <= high}
        try:
            graph = elaborate(Source(text), "tight").graph
        except CompileError as problem:
            if inside:
                raise Differs("budget refused", f"{kind}: {problem.diagnostics[0].message}") from None
            return
        if not inside:
            raise Differs("budget accepted", f"{kind} of {costs[0]} to {costs[-1]}")
        self.drawn(Population(graph), inside)
        self.done["budgets"] += 1

    def built(self) -> None:
        """The supernet runs, and an architecture taken out of it has the layers and weights that it should."""
        import torch

        from nasdsl.compiler.supernet import Supernet
        from tests.networks import image_for, output_size, unsettle

        supernet = Supernet(self.graph).eval()
        unsettle(supernet)
        for architecture in self.some(2):
            member = self.by_key[self.key(architecture)]
            supernet.activate(architecture)
            alone = supernet.extract()
            pinned = pin(self.graph, architecture.indices)
            plain = Supernet(evaluated(pinned)).eval()
            kept = plain.state_dict().keys()
            plain.load_state_dict({name: value for name, value in alone.state_dict().items() if name in kept})
            with_sides = sum(layer.params for layer in member.layers)
            for network, wanted in ((alone, with_sides), (plain, member.params)):
                parameters = sum(p.numel() for p in network.parameters())
                if parameters != wanted:
                    raise Differs("weights", f"{architecture}: {parameters}, and it is {wanted}")
            image = image_for(pinned, 2)
            with torch.no_grad():
                outputs = [network(image) for network in (supernet, alone, plain)]
            size = output_size(pinned.nodes[pinned.outputs[0]].shape, 2)
            shapes = [tuple(output.shape) for output in outputs]
            if shapes != 3 * [size]:
                raise Differs("output", f"{architecture}: {shapes}, and it is {size}")
            one, *others = outputs
            for other in others:
                if not float((one - other).abs().max()) <= 1e-5 * max(1.0, float(one.abs().max())):
                    raise Differs("extracted", f"{architecture}: differs by {float((one - other).abs().max())}")
            self.done["networks"] += 1


def _few(things: Any) -> str:
    listed = list(things)
    return f"{listed[:3]}{'...' if len(listed) > 3 else ''}"


def _layers(graph: Graph) -> Iterator[tuple[Any, ...]]:
    """The layers of an architecture, as the interpreter tells them."""
    for node in graph.operators():
        if node.reached is not True:
            raise Differs("layers", f"{node.name} is reached: {node.reached}")
        edge, *side = node.inputs
        if len(side) != (node.op == AUXILIARY.name):
            raise Differs("layers", f"{node.name} reads {len(node.inputs)} tensors")
        x, y = graph.nodes[edge.source].shape, node.shape
        arguments = []
        for name, default in PARAMETERS.get(node.op, {"weight": None}).items():
            value = node.attrs[name]
            if value is None and name == "kernel":
                value = default
            if not isinstance(value, Mapping):
                arguments.append((name, _plain(value)))
        reads, gives = ((shape.channels, shape.height, shape.width) for shape in (x, y))
        yield node.op, tuple(arguments), reads, gives, node.aside


def _plain(value: Any) -> Any:
    if isinstance(value, Symbol):
        return Word(value.word)
    return Units(value.n, value.kept) if isinstance(value, FixedUnits) else value
