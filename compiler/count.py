"""How many architectures a space has: exactly, and how that number comes about, declaration by declaration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler import notebook
from nasdsl.compiler.engine.eliminate import COUNT, Elimination, Step, eliminate
from nasdsl.compiler.engine.factors import Constraint, FactorGraph, Variable
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.plain import ABSENT
from nasdsl.compiler.values.tree import decisions_of

MOST_SHOWN = 200
"""Characters of a product that a short form shows."""


@dataclass(frozen=True)
class Split:
    """How many values a group of decisions has under each option of the one that governs it, such as a depth."""

    path: str
    options: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Factor:
    """A group of decisions that hang together, and its equal copies: `copies` groups with `count` joint values each.

    Attributes:
        declarations: the expressions in the source that made its decisions, in the order of the graph.
        groups: the paths of each copy.
        split: by the governing decision, where the presence of others hangs on one.
    """

    count: int
    copies: int
    declarations: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    split: Split | None = None

    @property
    def total(self) -> int:
        return self.count**self.copies

    def __str__(self) -> str:
        """`5^6`, `(81 + 729 + 6,561 = 7,371)^5`, `(2^576 - 1)^44`."""
        text = brief(self.count)
        if self.split is not None and 1 < len({number for _, number in self.split.options}) <= 8:
            parts = [brief(number) for _, number in self.split.options]
            if all(len(part) <= 24 for part in parts):
                text = " + ".join(parts) + " = " + text
        if self.copies == 1:
            return text
        return f"({text})^{self.copies}" if any(sign in text for sign in " ^e") else f"{text}^{self.copies}"


@dataclass(frozen=True, repr=False)
class Count:
    """The size of a space: `total` assignments of present decisions meet all requirements but `budgets_left_out`."""

    total: int
    factors: tuple[Factor, ...]
    budgets_left_out: tuple[Requirement, ...] = ()

    def __str__(self) -> str:
        """`7,371`, `2^576`, or `1.3e4521`."""
        return brief(self.total)

    def __repr__(self) -> str:
        """`Count(1,679,616 = 6^8)`"""
        product = self.product
        shown = product if len(product) <= MOST_SHOWN else f"{len(self.factors):,} factors"
        left = f", {len(self.budgets_left_out)} budgets left out" if self.budgets_left_out else ""
        return f"Count({self}{'' if product == str(self) else f' = {shown}'}{left})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)

    @property
    def product(self) -> str:
        """The factors with more than one value, as a product."""
        words = [str(f) for f in self.factors if f.count != 1]
        return " x ".join(f"({w})" if " " in w and w[0] != "(" and len(words) > 1 else w for w in words) or "1"


def count(graph: Graph) -> Count:
    """Counts the architectures of a graph.

    Raises:
        TooWide: too many decisions hang together for the exact answer.
    """
    wanted = structural(graph)
    budgets = tuple(r for r in graph.requirements if r.origin == "budget")
    network = FactorGraph(graph.decisions, [Constraint(r.condition) for r in wanted])
    components = network.components()
    governing = {i for i in (_governor(network, component) for component in components) if i is not None}
    try:
        result = eliminate(network, COUNT, governing)
    except TooWide:
        if not governing:
            raise
        governing = set()
        result = eliminate(network, COUNT)
    if result.total is None:
        return Count(0, (), budgets)
    return Count(result.total, _factors(result, components, governing), budgets)


def _governor(network: FactorGraph, component: list[int]) -> int | None:
    """The choice that decides most often whether others of its component are present."""
    if len(component) == 1:
        return None
    mentions: Counter[int] = Counter()
    for i in component:
        decision = network.variables[i].decision
        if decision is not None and decision.present is not True:
            mentions.update(network.index[path] for path in decisions_of(decision.present))
    choices = [i for i in mentions if _decision(network.variables[i]).kind == "choice"]
    return max(choices, key=lambda i: (mentions[i], -i)) if choices else None


def _decision(variable: Variable) -> Any:
    assert variable.decision is not None
    return variable.decision


def _factors(result: Elimination, components: list[list[int]], governing: set[int]) -> tuple[Factor, ...]:
    network = result.network
    home = {i: number for number, component in enumerate(components) for i in component}
    sums: dict[int, int] = {}
    splits: dict[int, Split] = {}
    for number, value in result.values.items():
        step = result.steps[number]
        sums[home[step.variable]] = value
        if step.variable in governing:
            splits[home[step.variable]] = _split(result, step)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for number, component in enumerate(components):
        made_by = tuple(d.declaration or d.path for i in component if (d := network.variables[i].decision) is not None)
        options = splits[number].options if number in splits else ()
        alike.setdefault((made_by, sums[number], options), []).append(number)
    factors = []
    for (made_by, value, _), copies in alike.items():
        groups = tuple(
            tuple(network.variables[i].name for i in components[number] if network.variables[i].decision is not None)
            for number in copies
        )
        declarations = tuple(dict.fromkeys(made_by))
        factors.append(Factor(value, len(copies), declarations, groups, splits.get(copies[0])))
    return tuple(factors)


def _split(result: Elimination, step: Step) -> Split:
    """The sum of a component under each option of its last variable."""
    variable = result.network.variables[step.variable]
    decision = _decision(variable)
    cells = [-1] * len(result.network.variables)
    found: dict[int, tuple[str, int]] = {}
    for number, value in result.options(step, cells):
        cell = variable.cells[number]
        if cell.value is ABSENT:
            found[decision.n] = ("absent", value)
        else:
            for option in cell.members:
                found[option] = (decision.describe(option), value // cell.count)
    return Split(decision.path, tuple(found[option] for option in sorted(found)))


# --- numbers for people -----------------------------------------------------------------------------------------------


def scientific(number: int, digits: int = 2) -> str:
    """`1.3e4521`: rounded to so many digits, whatever the length."""
    if number < 0:
        return "-" + scientific(-number, digits)
    exponent = _exponent(number)
    shift = exponent - digits + 1
    leading = (2 * number + 10**shift) // (2 * 10**shift) if shift > 0 else number * 10**-shift
    if leading >= 10**digits:
        leading, exponent = leading // 10, exponent + 1
    word = str(leading)
    return f"{word[0]}.{word[1:]}e{exponent}" if digits > 1 else f"{word}e{exponent}"


def _exponent(number: int) -> int:
    """The largest e with 10^e <= number; 0 for 0."""
    if number < 10:
        return 0
    guess = (number.bit_length() - 1) * 30103 // 100_000
    guess -= guess // 10_000_000  # 0.30103 lies above log10(2), by less than a part in 10^7
    power = 10**guess
    while power > number:
        guess, power = guess - 1, power // 10
    while power * 10 <= number:
        guess, power = guess + 1, power * 10
    return guess


def brief(number: int) -> str:
    """Exactly where that is short (`7,371`, `2^576`, `2^48 - 1`, `5^60`), else in scientific notation."""
    if abs(number) < 10**9:
        return f"{number:,}"
    if number > 0:
        if number & (number - 1) == 0:
            return f"2^{number.bit_length() - 1}"
        if number & (number + 1) == 0:
            return f"2^{number.bit_length()} - 1"
        power = _power(number)
        if power is not None:
            return power
    return f"{number:,}" if abs(number) < 10**15 else scientific(number)


def _power(number: int) -> str | None:
    """`5^60`: a power of a small base."""
    for base in (3, 5, 6, 7, 10, 11, 12, 13, 14, 15, 17, 19):
        if number % base**8:
            continue
        exponent = round((number.bit_length() - 0.5) / (base.bit_length() - 0.5))
        low, high = 1, 4 * exponent + 4
        while low < high:
            exponent = (low + high) // 2
            low, high = (exponent + 1, high) if base**exponent < number else (low, exponent)
        if base**low == number:
            return f"{base}^{low}"
    return None


def decimal(number: int) -> str:
    """All digits, also of numbers that `str` refuses for their length."""
    if number < 0:
        return "-" + decimal(-number)
    if number.bit_length() < 10_000:
        return str(number)
    half = _exponent(number) // 2 + 1
    high, low = divmod(number, 10**half)
    return decimal(high) + decimal(low).zfill(half)
