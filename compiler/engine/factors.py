"""Decisions, requirements and a cost as variables and factors over few variables each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.cells import Cell, cells_of, ends_of_cells, structure
from nasdsl.compiler.engine.limits import WIDEST, TooWide, spend
from nasdsl.compiler.engine.monotone import Monotone
from nasdsl.compiler.values.expr import Value, multiply
from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import ABSENT, FAULT, FAULTS
from nasdsl.compiler.values.tree import Apply, Case, Expr, Has, value_at

DIRECT = 128  # a factor whose table would have more entries is split by intermediates


@dataclass(frozen=True)
class Constraint:
    """A condition that every architecture must meet, or (`wanted` False) must break.

    One without a value is broken; with `doubtful` it counts as met, for proofs that it has a value.
    """

    condition: Value
    wanted: bool = True
    doubtful: bool = False


class Term:
    """An expression whose leaves are atoms. `scope`: its variables, ascending; `values`: of a leaf, by cell."""

    __slots__ = ("args", "function", "scope", "values")

    def __init__(self, function: str, args: tuple[Term, ...], scope: tuple[int, ...], values: list[Any]):
        self.function, self.args, self.scope, self.values = function, args, scope, values


@dataclass
class Variable:
    """A decision with its cells, or an intermediate (`decision` None) with the values it can take."""

    name: str
    size: int
    decision: Decision | None = None
    cells: list[Cell] = field(default_factory=list)


@dataclass
class Factor:
    """A table over few variables: cell numbers to a value of the semiring. `origin` is the step whose sum it is."""

    scope: tuple[int, ...]
    table: dict[tuple[int, ...], Any]
    origin: int = -1


@dataclass
class Charge:
    """A cost told apart exactly: a constant, and factors (a key that is missing has no cost, it is a FAULT)."""

    constant: Any
    factors: list[Factor]


class FactorGraph:
    """Decisions, constraints and a cost as variables and factors, ready to be eliminated in a semiring.

    Args:
        cost: of which the best alone is asked: cells are only as fine as its terms over several decisions need.
        better: min or max, which of two costs is the better one.
        exact: costs of which every value is asked (see `charges`). Each option of a choice is then a cell of its own,
            numbered as the option is.
        apart: whether each value of a subset is then a cell of its own, too.

    Raises:
        TooWide: a single factor has too large a table, however it is split.
    """

    def __init__(
        self,
        decisions: Mapping[str, Decision],
        constraints: Iterable[Constraint] = (),
        cost: Value = 0,
        better: Callable[[Any, Any], Any] | None = None,
        exact: Sequence[Value] | None = None,
        apart: bool = False,
    ):
        self.better = better
        self.index = {path: i for i, path in enumerate(decisions)}
        self.variables = [Variable(path, 0, decision) for path, decision in decisions.items()]
        self.relations: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = []
        self.defined: dict[int, int] = {}  # each intermediate and the relation that it follows from, in order
        self.costs: list[Factor] = []
        self.constant: Any = 0
        self.charges: list[Charge] = []
        self.possible = True
        self._exact = exact is not None
        self._atoms: list[dict[Value, Term]] = [{} for _ in decisions]
        self._single: list[list[Value]] = [[] for _ in decisions]
        self._terms: dict[Value, Term] = {}
        self._applied: dict[tuple[Any, ...], Term] = {}
        self._narrowed: dict[tuple[int, int], Term] = {}
        self._intermediates: dict[int, Term] = {}
        presences = [
            (i, self.term(decision.present))
            for i, decision in enumerate(decisions.values())
            if decision.present is not True
        ]
        wanted = [(self.term(condition), want, c.doubtful) for c in constraints for condition, want in _parts(c)]
        self._asked = [len(atoms) for atoms in self._atoms]  # atoms after these are asked by the cost alone
        self._charging: list[list[Value]] = [[] for _ in decisions]
        shared = self._read_cost(cost)
        read = [] if exact is None else self._read_exact(exact, apart)
        self._make_cells()
        if not all(variable.size for variable in self.variables):  # a decision without any value
            self.possible = False
            return
        for i, term in presences:
            self._relate_presence(i, term)
        for term, want, doubtful in wanted:
            self._relate(term, want, doubtful)
        self.costs = self._charge(shared)
        self.charges = [Charge(constant, self._charge(terms)) for constant, terms in read]

    # reading expressions

    def term(self, value: Value) -> Term:
        if not isinstance(value, Expr):
            return Term("", (), (), [value])
        if not value.decisions:
            return Term("", (), (), [value_at(value, {})])
        known = self._terms.get(value)
        if known is None:
            known = self._terms[value] = self._new_term(value)
        return known

    def _new_term(self, value: Expr) -> Term:
        if len(value.decisions) == 1:
            (path,) = value.decisions
            i = self.index[path]
            return self._atoms[i].setdefault(value, Term("", (), (i,), []))
        assert isinstance(value, Apply)
        args: Sequence[Value] = value.args
        if FUNCTIONS[value.function].associative:
            args = _grouped(value.function, args)
        return self._apply(value.function, tuple([self.term(a) for a in args]))

    def _apply(self, function: str, args: tuple[Term, ...]) -> Term:
        key = (function, *map(id, args))
        known = self._applied.get(key)
        if known is None:
            scope = tuple(sorted({i for a in args for i in a.scope}))
            known = self._applied[key] = Term(function, args, scope, [])
        return known

    def _read_cost(self, cost: Value) -> list[Term]:
        """Sorts the terms of a cost: constants, terms over one decision, and the others, which are returned."""
        shared: list[Term] = []
        for part in cost_terms(cost):
            if not isinstance(part, Expr):
                self.constant = self.constant + part
            elif len(part.decisions) == 1:
                (path,) = part.decisions
                self._single[self.index[path]].append(part)
            else:
                shared.append(self.term(part))
                for path in part.decisions:
                    self._charging[self.index[path]].append(part)
        return shared

    def _read_exact(self, costs: Sequence[Value], apart: bool) -> list[tuple[Any, list[Term]]]:
        """Of each cost its constant and its other terms, those over one decision as atoms, so that cells tell them
        apart."""
        for i, variable in enumerate(self.variables):
            decision = variable.decision
            if decision is not None and decision.kind == "choice":
                self._atoms[i].setdefault(Case(variable.name, tuple(range(decision.n))), Term("", (), (i,), []))
            elif decision is not None and decision.kind == "subset" and apart:
                for item in range(decision.n):
                    self._atoms[i].setdefault(Has(variable.name, item), Term("", (), (i,), []))
        found = []
        for cost in costs:
            parts = cost_terms(cost)
            constant: Any = sum(part for part in parts if not isinstance(part, Expr))
            moving = [part for part in parts if isinstance(part, Expr)]
            found.append((constant, [self.term(part) for part in _grouped("add", moving)]))
        return found

    def _make_cells(self) -> None:
        like: dict[Any, tuple[list[Cell], list[list[Any]]]] = {}
        directions = Monotone()
        for i, (variable, atoms, costs) in enumerate(zip(self.variables, self._atoms, self._single, strict=True)):
            decision = variable.decision
            assert decision is not None
            charged = decision.kind in ("units", "choice") and len(atoms) > self._asked[i]
            end = self._best_end(i, directions) if charged else None
            if end is not None:
                asked = tuple(atoms)[: self._asked[i]]
                variable.cells, table = ends_of_cells(decision, asked, tuple(atoms)[len(asked) :], costs, end)
            elif decision.kind == "units":  # many widths are alike, and a wide one takes long
                look = (
                    decision.n,
                    decision.present is True,
                    tuple(map(structure, atoms)),
                    tuple(map(structure, costs)),
                )
                if look not in like:
                    like[look] = cells_of(decision, tuple(atoms), costs, self.better)
                variable.cells, table = like[look]
            else:
                variable.cells, table = cells_of(decision, tuple(atoms), costs, self.better)
            variable.size = len(variable.cells)
            for term, values in zip(atoms.values(), table, strict=True):
                term.values = values

    def _best_end(self, i: int, directions: Monotone) -> Callable[[Iterable[int]], int] | None:
        """`min` or `max`: where the best width, or option, of a cell lies, if at one end of every cell."""
        decision = self.variables[i].decision
        assert decision is not None
        options = decision.n if decision.kind == "choice" else 0
        parts = (*self._charging[i], *self._single[i])
        signs = {directions.of(part, decision.path, options) for part in parts} - {0}
        if self.better not in (min, max) or len(signs) > 1 or None in signs:
            return None
        return min if (signs != {-1}) == (self.better is min) else max

    def components(self) -> list[list[int]]:
        """The variables that hang together, each component ascending, in the order of their first ones."""
        chief = list(range(len(self.variables)))

        def find(i: int) -> int:
            while chief[i] != i:
                chief[i] = i = chief[chief[i]]
            return i

        charged = [*self.costs, *(factor for charge in self.charges for factor in charge.factors)]
        for scope in [*(scope for scope, _ in self.relations), *(factor.scope for factor in charged)]:
            for i in scope[1:]:
                a, b = find(scope[0]), find(i)
                chief[max(a, b)] = min(a, b)
        out: dict[int, list[int]] = {}
        for i in range(len(self.variables)):
            out.setdefault(find(i), []).append(i)
        return list(out.values())

    # tables

    def _width(self, scope: Iterable[int]) -> int:
        return math.prod([self.variables[i].size for i in scope])

    def _keys(self, scope: tuple[int, ...], what: str = "a requirement") -> Iterator[tuple[int, ...]]:
        width = self._width(scope)
        if width > WIDEST:
            raise TooWide(what, width, WIDEST, [self.variables[i].name for i in scope])
        spend(math.prod([self.variables[i].size for i in scope]))
        return itertools.product(*[range(self.variables[i].size) for i in scope])

    def _narrow(self, term: Term, limit: int | None = None) -> Term:
        """An equal term whose table has at most `limit` entries, if intermediates can bring that about."""
        limit = DIRECT if limit is None else limit
        if not term.args or self._width(term.scope) <= limit:
            return term
        known = self._narrowed.get((id(term), limit))
        if known is None:
            known = self._narrowed[id(term), limit] = self._split(term, limit)
        return known

    def _split(self, term: Term, limit: int) -> Term:
        args = [self._narrow(a, limit) for a in term.args]
        args = [self._intermediate(a) if len(a.scope) > 1 or self._finer(a) else a for a in args]
        if FUNCTIONS[term.function].associative:
            fixed = [a for a in args if not a.scope]
            moving = [a for a in args if a.scope]
            while len(moving) > 2:  # all the way: terms that begin alike then share their partial results
                moving[:2] = [self._intermediate(self._apply(term.function, (moving[0], moving[1])))]
            args = moving + fixed
        return self._apply(term.function, tuple(args))

    def _finer(self, atom: Term) -> bool:
        """Whether exact costs cut a decision into many more cells than this atom has values."""
        return self._exact and bool(atom.scope) and 2 * len(set(atom.values)) <= self.variables[atom.scope[0]].size

    def _intermediate(self, term: Term) -> Term:
        """A variable of its own that takes the value of the term."""
        known = self._intermediates.get(id(term))
        if known is not None:
            return known
        narrow = self._narrow(term)
        of = self._closure(narrow, {i: place for place, i in enumerate(narrow.scope)})
        numbers: dict[Any, int] = {}
        keys = [(*key, numbers.setdefault(of(key), len(numbers))) for key in self._keys(narrow.scope)]
        new = len(self.variables)
        self.variables.append(Variable(f"intermediate {new}", len(numbers)))
        self.defined[new] = len(self.relations)
        self.relations.append(((*narrow.scope, new), keys))
        leaf = self._intermediates[id(term)] = Term("", (), (new,), list(numbers))
        return leaf

    def _closure(self, term: Term, places: Mapping[int, int]) -> Callable[[tuple[int, ...]], Any]:
        """The term as a function of the cell numbers of its scope."""
        if not term.args:
            values = term.values
            if not term.scope:
                value = values[0]
                return lambda key: value
            place = places[term.scope[0]]
            return lambda key: values[key[place]]
        parts = [self._closure(a, places) for a in term.args]
        function = FUNCTIONS[term.function]
        if function.decided is not None:
            return _junction(parts, function.decided)
        if function.picks:
            return _conditional(*parts)
        return _call(function.plain, parts)

    def _relate(self, term: Term, wanted: bool, doubtful: bool) -> None:
        term = self._narrow(term)
        of = self._closure(term, {i: place for place, i in enumerate(term.scope)})
        if not term.scope:
            self.possible = self.possible and _met(of(()), doubtful) is wanted
            return
        keys = [key for key in self._keys(term.scope) if _met(of(key), doubtful) is wanted]
        self.relations.append((term.scope, keys))

    def _relate_presence(self, i: int, term: Term) -> None:
        term = self._narrow(term, DIRECT // 2)
        if len(term.scope) > 2:  # one variable that says "present" for all decisions under the same condition
            term = self._intermediate(term)
        of = self._closure(term, {j: place for place, j in enumerate(term.scope)})
        absent = self.variables[i].size - 1
        keys: list[tuple[int, ...]] = []
        for key in self._keys(term.scope):
            value = of(key)
            if value is ABSENT or value is FAULT or not value:
                keys.append((*key, absent))
            else:
                keys.extend([(*key, cell) for cell in range(absent)])
        self.relations.append(((*term.scope, i), keys))

    def _charge(self, terms: Iterable[Term]) -> list[Factor]:
        alike: dict[tuple[int, ...], list[Term]] = {}
        for term in terms:
            term = self._narrow(term)
            alike.setdefault(term.scope, []).append(term)
        factors = []
        for scope, group in alike.items():
            of = _total([self._closure(term, {i: place for place, i in enumerate(scope)}) for term in group])
            table = {key: value for key in self._keys(scope, "a cost") if (value := of(key)) is not FAULT}
            factors.append(Factor(scope, table))
        return factors


def _met(value: Any, doubtful: bool) -> bool:
    return value is ABSENT or (doubtful if value is FAULT else bool(value))


def _junction(parts: list[Callable[[Any], Any]], decided: bool) -> Callable[[Any], Any]:
    def of(key: Any) -> Any:
        out: Any = not decided
        for part in parts:
            value = part(key)
            if value is FAULT or value is ABSENT:
                out = value if out is not FAULT else out
            elif bool(value) is decided:
                return decided
        return out

    return of


def _conditional(
    condition: Callable[[Any], Any], then: Callable[[Any], Any], otherwise: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    def of(key: Any) -> Any:
        value = condition(key)
        if value is ABSENT or value is FAULT:
            return value
        return then(key) if value else otherwise(key)

    return of


def _call(function: Callable[..., Any], parts: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def of(key: Any) -> Any:
        args = [part(key) for part in parts]
        for arg in args:
            if arg is ABSENT or arg is FAULT:
                return arg
        try:
            return function(*args)
        except FAULTS:
            return FAULT

    return of


def _total(parts: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """A sum of costs, in which what is absent costs nothing."""

    def of(key: Any) -> Any:
        total: Any = 0
        for part in parts:
            value = part(key)
            if value is FAULT:
                return FAULT
            if value is not ABSENT:
                total = total + value
        return total

    return of


def _grouped(function: str, args: Sequence[Value]) -> list[Value]:
    """Arguments over one and the same decision joined to one, so that its cells are as coarse as they can be."""
    out: dict[Any, list[Value]] = {}
    for i, arg in enumerate(args):
        alone = isinstance(arg, Expr) and len(arg.decisions) == 1
        out.setdefault(arg.decisions if alone else i, []).append(arg)
    return [group[0] if len(group) == 1 else Apply(function, tuple(group)) for group in out.values()]


def _parts(constraint: Constraint) -> Iterator[tuple[Value, bool]]:
    """A conjunction that must hold falls apart into its conditions; a constant that is met asks nothing."""
    stack = [(constraint.condition, constraint.wanted)]
    while stack:
        condition, wanted = stack.pop()
        if wanted and isinstance(condition, Apply) and condition.function == "and":
            stack.extend((a, True) for a in reversed(condition.args))
        elif isinstance(condition, Expr) or bool(condition) is not wanted:
            yield condition, wanted


MOST_PIECES = 256  # into which a product, or a condition with sums on both sides, is multiplied out


def cost_terms(value: Value, known: dict[Value, tuple[Value, ...]] | None = None) -> tuple[Value, ...]:
    """The summands of a cost, multiplied out of conditions and products: each then depends on few decisions.

    `known` holds what was found for shared parts: a running width mentions the one before it twice, and so on down.
    """
    if not isinstance(value, Apply) or len(value.decisions) < 2:
        return (value,)
    known = {} if known is None else known
    found = known.get(value)
    if found is None:
        found = known[value] = _multiplied_out(value, known)
    return found


def _multiplied_out(value: Apply, known: dict[Value, tuple[Value, ...]]) -> tuple[Value, ...]:
    if value.function == "add":
        return tuple([part for arg in value.args for part in cost_terms(arg, known)])
    if value.function == "if":
        condition, *branches = value.args
        then, otherwise = (tuple(p for p in cost_terms(b, known) if isinstance(p, Expr) or p != 0) for b in branches)
        if len(then) + len(otherwise) < 2 or (then and otherwise and len(then) + len(otherwise) > MOST_PIECES):
            return (value,)
        if len(then) == len(otherwise) == 1:
            return (value,)
        return (*[Apply("if", (condition, p, 0)) for p in then], *[Apply("if", (condition, 0, p)) for p in otherwise])
    if value.function == "mul" and len(value.decisions) > 2:
        sums = [cost_terms(arg, known) for arg in value.args]
        if 1 < math.prod(map(len, sums)) <= MOST_PIECES:
            return tuple(multiply(*choice) for choice in itertools.product(*sums))
    return (value,)
