"""One algorithm that proves, counts and optimises over all architectures at once, without enumerating them.

**The mathematics.** Let x_1 ... x_n be the decisions. A requirement is a function of few of them with values 0 and 1;
so is "x_i is absent exactly where its condition of presence fails". A cost is a sum of terms, each a function of few
decisions. For a commutative semiring (plus, times) the engine computes

    plus over all x of  times over all factors f of  f(x restricted to the decisions that f mentions)

by distributivity: to eliminate x_i, multiply the factors that mention it, add up over its values, and put the result,
a factor over the neighbours of x_i, in their place. The work is exponential only in the number of neighbours at that
moment (the *width*), which a good order keeps small: an inner choice vanishes inside its block. The semirings:

    (or, and)    is there an architecture?               a witness by walking back
    (+, x)       how many are there?                     ranks and uniform draws by walking back
    (min, +)     what does the cheapest cost?            the cheapest by walking back
    (max, +)     and the dearest?                        likewise

**Cells.** A decision may have 2^2304 values. It meets the factors only in *atoms*, the largest subexpressions that
depend on this decision alone, such as `0 < kept(units)`. Values on which all atoms agree are interchangeable, so the
engine works on *cells*: the classes of that relation, each with its exact size, and one more for "absent". The cells of
units are unions of intervals of the kept count k, of size sum of C(n, k). In (min, +) and (max, +) a term over one
decision is optimised inside each cell and never splits one. Nor does a product of widths where the whole cost rises
(or falls) with the kept count: the best of a cell is then its least or its greatest width.

**Intermediates.** A factor over many decisions is split: a partial result (the sum of the first depths, a running
width, whether a node is alive) becomes a variable of its own, whose values are those it can take. Being a function of
the decisions it changes no sum over them.
"""

from __future__ import annotations

import heapq
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.expr import (
    FAULTS,
    FUNCTIONS,
    Absent,
    Among,
    Apply,
    Case,
    Expr,
    Has,
    Kept,
    Slot,
    Symbol,
    Value,
    decisions_of,
    evaluate,
    multiply,
)

DIRECT = 128  # a factor whose table would have more entries is split by intermediates
WIDEST = 1 << 20  # the largest table that is ever made
MOST_PATTERNS = 40_000  # of one subset or order


_ENTRIES_LEFT: ContextVar[list[int] | None] = ContextVar("_ENTRIES_LEFT", default=None)


@contextmanager
def bounded(entries: int) -> Iterator[None]:
    """Inside, eliminations that make more table entries than this in all are TooWide.

    For answers that have to come at once, such as those of a check.
    """
    token = _ENTRIES_LEFT.set([entries])
    try:
        yield
    finally:
        _ENTRIES_LEFT.reset(token)


def _spend(entries: int) -> None:
    left = _ENTRIES_LEFT.get()
    if left is not None:
        left[0] -= entries
        if left[0] < 0:
            raise TooWide("the space", entries, 0)


class TooWide(Exception):
    """The exact answer needs a table of more than `limit` entries: up to `width`, over the decisions at `paths`."""

    def __init__(self, what: str, width: int, limit: int, paths: Sequence[str] = ()):
        self.width, self.limit, self.paths = width, limit, tuple(paths)
        size = f"{width:,}" if width < 10**18 else f"2^{width.bit_length() - 1}"
        super().__init__(f"{what} is too tangled for the exact answer: a table of {size} entries, more than {limit:,}")


@dataclass(frozen=True)
class Semiring:
    """`plus` chooses or adds up, `times` combines independent parts, `one` is neutral for it.

    Zero is what no table has an entry for.
    """

    name: str
    one: Any
    plus: Callable[[Any, Any], Any]
    times: Callable[[Any, Any], Any]


EXISTS = Semiring("exists", True, operator.or_, operator.and_)
COUNT = Semiring("count", 1, operator.add, operator.mul)
LEAST = Semiring("least", 0, min, operator.add)
GREATEST = Semiring("greatest", 0, max, operator.add)


class _Nothing:
    """What a value is where it has none."""

    def __init__(self, word: str):
        self.word = word

    def __repr__(self) -> str:
        return self.word


ABSENT = _Nothing("absent")  # the value hangs on a decision that does not exist
FAULT = _Nothing("fault")  # a function outside its domain, such as a division by zero


def value_at(value: Value, values: Mapping[str, Any]) -> Any:
    """As `expr.evaluate`, with ABSENT and FAULT in place of exceptions."""
    try:
        return evaluate(value, values)
    except Absent:
        return ABSENT
    except FAULTS:
        return FAULT


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patterns:
    """Values of a subset or an order, described by the part that factors mention.

    Subset: `mentioned` items, and for each pattern those of them that are in. Order: `mentioned` positions, `kinds[i]`
    of each item (items of one kind look alike to all factors), and for each pattern the kinds at these positions.
    """

    mentioned: tuple[int, ...]
    kinds: tuple[int, ...]
    patterns: tuple[tuple[int, ...], ...]


@dataclass
class Cell:
    """Values of one decision that no factor tells apart.

    Attributes:
        count: how many.
        value: one of them, the best where there is a cost; ABSENT in the cell of absence.
        members: options of a choice, intervals (first, last) of kept counts of units, or Patterns.
        cost: of the best value.
    """

    count: int
    value: Any
    members: Any
    cost: Any = 0


def _mentioned(values: Iterable[Value], kind: type[Expr]) -> list[Any]:
    found: dict[Expr, None] = {}
    stack = list(values)
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if isinstance(value, kind):
            found.setdefault(value)
        elif isinstance(value, Expr) and id(value) not in seen:
            seen.add(id(value))
            stack.extend(value.children())
    return list(found)


def _units_intervals(n: int, atoms: Iterable[Value]) -> Iterator[tuple[int, int]]:
    """Intervals of kept counts on which all atoms are constant; single counts where their form does not tell."""
    cuts = {0}
    for atom in atoms:
        bound = None
        if isinstance(atom, Apply) and atom.function in ("lt", "le", "eq") and len(atom.args) == 2:
            a, b = atom.args
            bound = b if isinstance(a, Kept) else a if isinstance(b, Kept) else None
        if not isinstance(bound, int):
            yield from ((k, k) for k in range(n + 1))
            return
        cuts |= {k for k in (bound, bound + 1) if 0 < k <= n}
    firsts = sorted(cuts)
    yield from zip(firsts, [first - 1 for first in firsts[1:]] + [n], strict=True)


def _slope(term: Value) -> Any:
    """The factor a of a term a * kept, or None for a term of another form."""
    if isinstance(term, Kept):
        return 1
    if isinstance(term, Apply) and term.function == "mul" and len(term.args) == 2 and isinstance(term.args[1], Kept):
        return None if isinstance(term.args[0], Expr) else term.args[0]
    return None


def completions(remaining: Mapping[Any, int], kinds: Mapping[Any, int], pattern: Sequence[int]) -> int:
    """In how many orders of words (each `remaining` times) the next positions show the kinds of `pattern`."""
    free = sum(remaining.values()) - len(pattern)
    total = math.factorial(free)
    left: dict[int, int] = {}
    for word, times in remaining.items():
        left[kinds[word]] = left.get(kinds[word], 0) + times
    for kind in pattern:
        total *= left.get(kind, 0)
        if not total:
            return 0
        left[kind] -= 1
    for times in remaining.values():
        total //= math.factorial(times)
    return total


def words_of(decision: Decision, kinds: Sequence[int]) -> tuple[dict[Any, int], dict[Any, int], dict[Any, list[int]]]:
    """Of an order: how often each different item stands in it, its kind, and its indices."""
    times: dict[Any, int] = {}
    kind: dict[Any, int] = {}
    indices: dict[Any, list[int]] = {}
    for i, item in enumerate(decision.items):
        times[item] = times.get(item, 0) + 1
        kind.setdefault(item, kinds[i] if kinds else 0)
        indices.setdefault(item, []).append(i)
    return times, kind, indices


def first_order(decision: Decision, members: Patterns, pattern: tuple[int, ...]) -> tuple[int, ...]:
    """An order that shows the pattern."""
    at: dict[int, int] = {}
    left = list(range(decision.n))
    for position, kind in zip(members.mentioned, pattern, strict=True):
        at[position] = next(i for i in left if members.kinds[i] == kind)
        left.remove(at[position])
    return tuple(at[p] if p in at else left.pop(0) for p in range(decision.n))


def first_subset(decision: Decision, members: Patterns, pattern: tuple[int, ...]) -> tuple[int, ...]:
    """A subset that contains of the mentioned items those of the pattern."""
    others = [i for i in range(decision.n) if i not in members.mentioned]
    return tuple(sorted((*pattern, *others[: decision.size - len(pattern)])))


def _subset_patterns(decision: Decision, mentioned: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    others = decision.n - len(mentioned)
    sizes = range(max(0, decision.size - others), min(decision.size, len(mentioned)) + 1)
    width = sum(math.comb(len(mentioned), j) for j in sizes)
    if width > MOST_PATTERNS:
        raise TooWide(f"the subset `{decision.path}`", width, MOST_PATTERNS, (decision.path,))
    return [(p, math.comb(others, decision.size - j)) for j in sizes for p in itertools.combinations(mentioned, j)]


def _order_patterns(
    decision: Decision, kinds: tuple[int, ...], mentioned: tuple[int, ...]
) -> list[tuple[tuple[int, ...], int]]:
    times, kind, _ = words_of(decision, kinds)
    left: dict[int, int] = {}
    for word, number in times.items():
        left[kind[word]] = left.get(kind[word], 0) + number
    found: list[tuple[int, ...]] = [()]
    for _ in mentioned:
        found = [(*p, k) for p in found for k in left if p.count(k) < left[k]]
        if len(found) > MOST_PATTERNS:
            bound = math.perm(decision.n, len(mentioned))
            raise TooWide(f"the order `{decision.path}`", bound, MOST_PATTERNS, (decision.path,))
    return [(p, completions(times, kind, p)) for p in found]


def _candidates(
    decision: Decision, atoms: Sequence[Value], costs: Sequence[Value], whole: Patterns
) -> Iterator[tuple[Any, Any, int]]:
    """(value, member, how many values it stands for), fine enough for atoms and costs to be constant on each."""
    if decision.kind == "choice":
        yield from ((option, option, 1) for option in range(decision.n))
    elif decision.kind == "units":
        if costs and not all(_slope(term) is not None for term in costs):
            intervals: Iterable[tuple[int, int]] = ((k, k) for k in range(decision.n + 1))
        else:
            intervals = _units_intervals(decision.n, atoms)
        for first, last in intervals:
            yield range(first), (first, last), 0  # counted when the cell is complete
            if costs and last > first:  # a linear cost is extreme at an end
                yield range(last), None, 0
    elif decision.kind == "subset":
        for pattern, number in _subset_patterns(decision, whole.mentioned):
            yield first_subset(decision, whole, pattern), pattern, number
    else:
        for pattern, number in _order_patterns(decision, whole.kinds, whole.mentioned):
            yield first_order(decision, whole, pattern), pattern, number


def _template(decision: Decision, expressions: Sequence[Value]) -> Patterns:
    """What the expressions mention of a subset or an order, without any pattern yet."""
    if decision.kind not in ("subset", "order"):
        return Patterns((), (), ())
    if decision.kind == "subset":
        return Patterns(tuple(sorted({leaf.item for leaf in _mentioned(expressions, Has)})), (), ())
    slots = _mentioned(expressions, Slot)
    looks = [tuple(leaf.values[i] for leaf in slots) for i in range(decision.n)]
    return Patterns(tuple(sorted({leaf.position for leaf in slots})), tuple(looks.index(look) for look in looks), ())


def cells_of(
    decision: Decision,
    atoms: Sequence[Value],
    costs: Sequence[Value] = (),
    better: Callable[[Any, Any], Any] | None = None,
) -> tuple[list[Cell], list[list[Any]]]:
    """The cells of a decision, that of absence last where it can be absent, and the value of each atom in each cell."""
    found: dict[tuple[Any, ...], Cell] = {}
    whole = _template(decision, (*atoms, *costs))
    for value, member, count in _candidates(decision, atoms, costs, whole):
        here = {decision.path: value}
        key = tuple([value_at(atom, here) for atom in atoms])
        cost = _cost_of(costs, here)
        cell = found.get(key)
        if cell is None:
            cell = found[key] = Cell(0, value, [], cost)
        elif better is not None and _improves(cost, cell.cost, better):
            cell.value, cell.cost = value, cost
        cell.count += count
        if member is not None:
            cell.members.append(member)
    out = list(found.values())
    if decision.kind == "units":
        _count_units(decision.n, out)
    elif decision.kind in ("subset", "order"):
        for cell in out:
            cell.members = Patterns(whole.mentioned, whole.kinds, tuple(cell.members))
    table = [list(column) for column in zip(*found, strict=True)] if atoms else []
    if decision.present is not True:
        out.append(Cell(1, ABSENT, ()))
        for column, atom in zip(table, atoms, strict=True):
            column.append(value_at(atom, {}))
        out[-1].cost = _cost_of(costs, {})
    return out, table


def _improves(cost: Any, known: Any, better: Callable[[Any, Any], Any]) -> bool:
    return cost is not FAULT and (known is FAULT or bool(better(cost, known) == cost != known))


def _cost_of(costs: Sequence[Value], here: Mapping[str, Any]) -> Any:
    total: Any = 0
    for term in costs:
        value = value_at(term, here)
        if value is FAULT:
            return FAULT
        if value is not ABSENT:
            total = total + value
    return total


def _ends_of_cells(
    decision: Decision,
    asked: Sequence[Value],
    charged: Sequence[Value],
    costs: Sequence[Value],
    end: Callable[[Iterable[int]], int],
) -> tuple[list[Cell], list[list[Any]]]:
    """The cells of units by the atoms of requirements alone, each represented by its least or greatest width."""
    cells, table = cells_of(decision, asked)
    values: list[dict[str, Any]] = []
    for cell in cells:
        if cell.value is not ABSENT:
            cell.value = tuple(range(end(k for interval in cell.members for k in interval)))
        values.append({} if cell.value is ABSENT else {decision.path: cell.value})
        cell.cost = _cost_of(costs, values[-1])
    return cells, table + [[value_at(atom, here) for here in values] for atom in charged]


def direction(value: Value, path: str) -> int | None:
    """1 where a value never falls as more units are kept at `path`, -1 where it never rises, 0 where both."""
    if path not in decisions_of(value):
        return 0
    if isinstance(value, Kept):
        return 1
    if not isinstance(value, Apply):
        return None
    function, args = value.function, value.args
    if function == "if":
        if path in decisions_of(args[0]):
            return None
        args = args[1:]
    elif function in ("floordiv", "ceildiv", "div"):
        if path in decisions_of(args[1]) or not _never_negative(args[1]):
            return None
        args = args[:1]
    elif function == "mul":
        negative = not isinstance(args[0], Expr) and args[0] < 0
        if not all(map(_never_negative, args[1:] if negative else args)):
            return None
        inner = _common([direction(a, path) for a in args])
        return -inner if negative and inner is not None else inner
    elif function not in ("add", "min", "max", "floor", "ceil", "round"):
        return None
    return _common([direction(a, path) for a in args])


def _common(signs: Iterable[int | None]) -> int | None:
    found = set(signs) - {0}
    return 0 if not found else found.pop() if len(found) == 1 else None


def _never_negative(value: Value) -> bool:
    if isinstance(value, Case | Slot):
        return all(not isinstance(v, str | Symbol | tuple) and v >= 0 for v in value.values)
    if isinstance(value, Kept | Among | Has):
        return True
    if isinstance(value, Apply):
        if value.function == "if":
            return all(map(_never_negative, value.args[1:]))
        rising = ("add", "mul", "min", "max", "div", "floordiv", "ceildiv", "floor", "ceil", "round")
        return value.function in rising and all(map(_never_negative, value.args))
    return isinstance(value, int | float | Fraction) and value >= 0


def _count_units(n: int, cells: list[Cell]) -> None:
    """Sizes of the cells; that of the widest one is what the others leave of 2^n."""
    widest = max(cells, key=lambda cell: sum(last - first for first, last in cell.members) + len(cell.members))
    rest = 1 << n
    for cell in cells:
        cell.value = tuple(cell.value)
        if cell is not widest:
            cell.count = sum(math.comb(n, k) for first, last in cell.members for k in range(first, last + 1))
            rest -= cell.count
    widest.count = rest


def _look(value: Value) -> Any:
    """The structure of an expression over one decision, whatever the decision is called."""
    if isinstance(value, Apply):
        return (value.function, *map(_look, value.args))
    if isinstance(value, Expr):
        return (type(value).__name__, *[getattr(value, name) for name in value.__match_args__ if name != "path"])
    return (type(value).__name__, value)


# --- factors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constraint:
    """A condition that every architecture must meet, or (`wanted` False) must break."""

    condition: Value
    wanted: bool = True


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


ASSOCIATIVE = frozenset(("and", "or", "add", "mul", "min", "max"))


class Network:
    """Decisions, constraints and a cost as variables and factors, ready to be eliminated in a semiring.

    Raises:
        TooWide: a single factor has too large a table, however it is split.
    """

    def __init__(
        self,
        decisions: Mapping[str, Decision],
        constraints: Iterable[Constraint] = (),
        cost: Value = 0,
        better: Callable[[Any, Any], Any] | None = None,
    ):
        self.better = better
        self.index = {path: i for i, path in enumerate(decisions)}
        self.variables = [Variable(path, 0, decision) for path, decision in decisions.items()]
        self.relations: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = []
        self.defined: dict[int, int] = {}  # each intermediate and the relation that it follows from, in order
        self.costs: list[Factor] = []
        self.constant: Any = 0
        self.possible = True
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
        wanted = [(self.term(condition), want) for c in constraints for condition, want in _parts(c)]
        self._asked = [len(atoms) for atoms in self._atoms]  # atoms after these are asked by the cost alone
        self._charging: list[list[Value]] = [[] for _ in decisions]
        shared = self._read_cost(cost)
        self._make_cells()
        if not all(variable.size for variable in self.variables):  # a decision without any value
            self.possible = False
            return
        for i, term in presences:
            self._relate_presence(i, term)
        for term, want in wanted:
            self._relate(term, want)
        self._charge(shared)

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
        if value.function in ASSOCIATIVE:
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

    def _make_cells(self) -> None:
        like: dict[Any, tuple[list[Cell], list[list[Any]]]] = {}
        for i, (variable, atoms, costs) in enumerate(zip(self.variables, self._atoms, self._single, strict=True)):
            decision = variable.decision
            assert decision is not None
            end = self._best_end(i) if decision.kind == "units" and len(atoms) > self._asked[i] else None
            if end is not None:
                asked = tuple(atoms)[: self._asked[i]]
                variable.cells, table = _ends_of_cells(decision, asked, tuple(atoms)[len(asked) :], costs, end)
            elif decision.kind == "units":  # many widths are alike, and a wide one takes long
                look = (decision.n, decision.present is True, tuple(map(_look, atoms)), tuple(map(_look, costs)))
                if look not in like:
                    like[look] = cells_of(decision, tuple(atoms), costs, self.better)
                variable.cells, table = like[look]
            else:
                variable.cells, table = cells_of(decision, tuple(atoms), costs, self.better)
            variable.size = len(variable.cells)
            for term, values in zip(atoms.values(), table, strict=True):
                term.values = values

    def _best_end(self, i: int) -> Callable[[Iterable[int]], int] | None:
        """`min` or `max`: where the best width of a cell lies, if at one end of every cell."""
        path = self.variables[i].name
        signs = {direction(part, path) for part in (*self._charging[i], *self._single[i])} - {0}
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

        for scope in [*(scope for scope, _ in self.relations), *(factor.scope for factor in self.costs)]:
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
        _spend(math.prod([self.variables[i].size for i in scope]))
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
        args = [self._intermediate(a) if len(a.scope) > 1 else a for a in args]
        if term.function in ASSOCIATIVE:
            fixed = [a for a in args if not a.scope]
            moving = [a for a in args if a.scope]
            while len(moving) > 2:  # all the way: terms that begin alike then share their partial results
                moving[:2] = [self._intermediate(self._apply(term.function, (moving[0], moving[1])))]
            args = moving + fixed
        return self._apply(term.function, tuple(args))

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
        if term.function in ("and", "or"):
            return _junction(parts, decided=term.function == "or")
        if term.function == "if":
            return _conditional(*parts)
        return _call(FUNCTIONS[term.function], parts)

    def _relate(self, term: Term, wanted: bool) -> None:
        term = self._narrow(term)
        of = self._closure(term, {i: place for place, i in enumerate(term.scope)})
        if not term.scope:
            self.possible = self.possible and _met(of(())) is wanted
            return
        keys = [key for key in self._keys(term.scope) if _met(of(key)) is wanted]
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

    def _charge(self, terms: Iterable[Term]) -> None:
        alike: dict[tuple[int, ...], list[Term]] = {}
        for term in terms:
            term = self._narrow(term)
            alike.setdefault(term.scope, []).append(term)
        for scope, group in alike.items():
            of = _total([self._closure(term, {i: place for place, i in enumerate(scope)}) for term in group])
            table = {key: value for key in self._keys(scope, "a cost") if (value := of(key)) is not FAULT}
            self.costs.append(Factor(scope, table))


def _met(value: Any) -> bool:
    return value is ABSENT or (value is not FAULT and bool(value))


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


# --- elimination ------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """One variable summed out of the factors that mentioned it."""

    variable: int
    factors: list[Factor]
    scope: tuple[int, ...]


@dataclass
class Elimination:
    """The steps taken, and the sum of each connected component.

    Attributes:
        values: the sum over each component, by the number of its last step; empty where some component's sum is zero.
        total: the product of all of them, None where it is zero.
        width: entries of the largest table.
    """

    network: Network
    semiring: Semiring
    weights: list[list[Any]]
    steps: list[Step]
    values: dict[int, Any]
    total: Any
    width: int

    def walk(self, choose: Callable[[Step, list[tuple[int, Any]]], int]) -> list[int]:
        """A cell for each variable, last step first: `choose` takes one of those left, given the ones chosen before."""
        cells = [-1] * len(self.network.variables)
        for step in reversed(self.steps):
            cells[step.variable] = choose(step, self.options(step, cells))
        return cells

    def options(self, step: Step, cells: list[int]) -> list[tuple[int, Any]]:
        """The cells of a step's variable and what remains to be summed under each, given the cells of its scope."""
        found = []
        times = self.semiring.times
        for cell, weight in enumerate(self.weights[step.variable]):
            if weight is None:
                continue
            cells[step.variable] = cell
            for factor in step.factors:
                value = factor.table.get(tuple([cells[i] for i in factor.scope]))
                if value is None:
                    break
                weight = times(weight, value)
            else:
                found.append((cell, weight))
        return found

    def best(self) -> dict[str, Any] | None:
        """Values of the present decisions that attain the total of (or, and), (min, +) or (max, +)."""
        if self.total is None:
            return None
        plus = self.semiring.plus

        def choose(step: Step, options: list[tuple[int, Any]]) -> int:
            cell, best = options[0]
            for other, value in options[1:]:
                if plus(value, best) == value != best:
                    cell, best = other, value
            return cell

        cells = self.walk(choose)
        out: dict[str, Any] = {}
        for variable, number in zip(self.network.variables, cells, strict=True):
            if variable.decision is not None and variable.cells[number].value is not ABSENT:
                out[variable.name] = variable.cells[number].value
        return out


def eliminate(network: Network, semiring: Semiring, last: Iterable[int] = ()) -> Elimination:
    """All variables summed out, those in `last` after all others.

    Raises:
        TooWide: a table grows beyond the limit.
    """
    weights = [_weights(variable, semiring) for variable in network.variables]
    factors = [Factor(scope, dict.fromkeys(keys, semiring.one)) for scope, keys in network.relations]
    if semiring in (LEAST, GREATEST):
        factors += network.costs
    result = Elimination(network, semiring, weights, [], {}, None, 1)
    if not network.possible:
        return result
    touching: list[set[int]] = [set() for _ in network.variables]
    for number, factor in enumerate(factors):
        for i in factor.scope:
            touching[i].add(number)
    for i in _order(network, factors, frozenset(last)):
        mine = sorted(touching[i])
        bucket = sorted([factors[number] for number in mine], key=lambda f: len(f.table))
        for number in mine:
            for j in factors[number].scope:
                touching[j].discard(number)
        scope, table = _sum_out(i, weights[i], bucket, semiring, network)
        result.width = max(result.width, len(table))
        number = len(result.steps)
        result.steps.append(Step(i, bucket, scope))
        if not table:
            return Elimination(network, semiring, weights, result.steps, {}, None, result.width)
        if scope:
            for j in scope:
                touching[j].add(len(factors))
            factors.append(Factor(scope, table, number))
        else:
            result.values[number] = table[()]
    result.total = _product(list(result.values.values()), semiring)
    if semiring in (LEAST, GREATEST):
        result.total = result.total + network.constant
    return result


def _product(values: list[Any], semiring: Semiring) -> Any:
    """Of many large numbers, by halves: the factors of each multiplication stay of like length."""
    if not values:
        return semiring.one
    while len(values) > 1:
        odd = values[-1:] if len(values) % 2 else []
        values = [semiring.times(a, b) for a, b in zip(values[::2], values[1::2], strict=False)] + odd
    return values[0]


def _weights(variable: Variable, semiring: Semiring) -> list[Any]:
    if variable.decision is None or semiring is EXISTS:
        return [semiring.one] * variable.size
    if semiring is COUNT:
        return [cell.count for cell in variable.cells]
    return [None if cell.cost is FAULT else cell.cost for cell in variable.cells]


def _order(network: Network, factors: list[Factor], last: frozenset[int]) -> Iterator[int]:
    """Always the variable that leaves the smallest table; of equals the latest: a block goes before what governs it."""
    count = len(network.variables)
    size = [variable.size for variable in network.variables]
    near: list[set[int]] = [set() for _ in range(count)]
    for factor in factors:
        for i in factor.scope:
            near[i].update(factor.scope)
    for i in range(count):
        near[i].discard(i)
    left = [math.prod([size[j] for j in near[i]]) for i in range(count)]
    queue = [(i in last, left[i], -i) for i in range(count)]
    heapq.heapify(queue)
    gone = [False] * count
    while queue:
        _, entries, minus = heapq.heappop(queue)
        i = -minus
        if gone[i] or entries != left[i]:
            continue
        gone[i] = True
        around = near[i]
        for a in around:
            near[a].discard(i)
            left[a] //= size[i]
        for a in around:
            for b in around - near[a]:
                if b != a:
                    near[a].add(b)
                    left[a] *= size[b]
        for a in around:
            heapq.heappush(queue, (a in last, left[a], -a))
        yield i


def _sum_out(
    i: int, weights: list[Any], bucket: list[Factor], semiring: Semiring, network: Network
) -> tuple[tuple[int, ...], dict[tuple[int, ...], Any]]:
    """The product of the factors of a bucket, summed over one variable."""
    scope: tuple[int, ...] = (i,)
    table: dict[tuple[int, ...], Any] = {(cell,): weight for cell, weight in enumerate(weights) if weight is not None}
    for factor in bucket:
        scope, table = _join(scope, table, factor, semiring, network)
    place = scope.index(i)
    rest = scope[:place] + scope[place + 1 :]
    out: dict[tuple[int, ...], Any] = {}
    plus = semiring.plus
    for key, value in table.items():
        short = key[:place] + key[place + 1 :]
        known = out.get(short)
        out[short] = value if known is None else plus(known, value)
    return rest, out


def _join(
    scope: tuple[int, ...], table: dict[tuple[int, ...], Any], factor: Factor, semiring: Semiring, network: Network
) -> tuple[tuple[int, ...], dict[tuple[int, ...], Any]]:
    """The product of two tables: entries that agree on the shared variables."""
    shared = [i for i in factor.scope if i in scope]
    new = [i for i in factor.scope if i not in scope]
    shared_there = [factor.scope.index(i) for i in shared]
    new_there = [factor.scope.index(i) for i in new]
    shared_here = [scope.index(i) for i in shared]
    by_shared: dict[tuple[int, ...], list[tuple[tuple[int, ...], Any]]] = {}
    for key, value in factor.table.items():
        entry = (tuple([key[p] for p in new_there]), value)
        by_shared.setdefault(tuple([key[p] for p in shared_there]), []).append(entry)
    out: dict[tuple[int, ...], Any] = {}
    times = semiring.times
    union = (*scope, *new)
    _spend(len(table) + len(factor.table))
    for key, value in table.items():
        for rest, other in by_shared.get(tuple([key[p] for p in shared_here]), ()):
            out[key + rest] = times(value, other)
        if len(out) > WIDEST:
            names = [network.variables[j].name for j in union]
            width = math.prod([network.variables[j].size for j in union])
            raise TooWide("the space", width, WIDEST, [name for name in names if not name.startswith("intermediate ")])
    _spend(len(out))
    return union, out
