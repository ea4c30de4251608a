"""Published spaces as decisions and costs alone, without the networks: what the engine sees of them."""

from __future__ import annotations

from fractions import Fraction

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.expr import Value, add, both, choose, multiply
from nasdsl.compiler.values.tree import Among, Case


def option(path: str, n: int, *options: int) -> Value:
    return Among(path, n, frozenset(options))


def once_for_all() -> tuple[Graph, dict[str, Value]]:
    """Once-for-All's MobileNetV3: five stages of 2 to 4 blocks, a kernel and an expansion each.

    7371 alternatives a stage. The costs are those of the inverted bottlenecks at 224 x 224 (the rest is constant).
    """
    made: list[Decision] = []
    macs: list[Value] = [30_000_000]
    params: list[Value] = [3_000_000]
    before, size = 16, 112
    for s, (width, stride) in enumerate(((24, 2), (40, 2), (80, 2), (112, 1), (160, 2))):
        depth = f"stage{s + 1}.depth"
        made.append(Decision(depth, "choice", (2, 3, 4), declaration="depth"))
        for i in range(4):
            present = True if i < 2 else option(depth, 3, *range(i - 1, 3))
            kernel, expand = f"stage{s + 1}[{i}].kernel", f"stage{s + 1}[{i}].expand"
            made.append(Decision(kernel, "choice", (3, 5, 7), present=present, declaration="kernel"))
            made.append(Decision(expand, "choice", (3, 4, 6), present=present, declaration="expand"))
            pixels, after = size**2, (size // stride) ** 2 if i == 0 else size**2
            hidden = multiply(before, Case(expand, (3, 4, 6)))
            area = Case(kernel, (9, 25, 49))
            cost = add(multiply(hidden, pixels * before + after * width), multiply(after, hidden, area))
            weights = add(multiply(hidden, before + width + 4), multiply(hidden, area), 2 * width)
            macs.append(choose(present, cost, 0))
            params.append(choose(present, weights, 0))
            if i == 0:
                size //= stride
            before = width
    return Graph({}, {d.path: d for d in made}, (), ()), {"macs": add(*macs), "params": add(*params)}


def trionet() -> tuple[Graph, dict[str, Value]]:
    """TrioNet: 1-2, 2-3, 3-6 and 1-3 blocks of one of three operators, 70 alternatives each: 7.2e25 architectures."""
    made: list[Decision] = []
    macs: list[Value] = []
    params: list[Value] = []
    before, size = 64, 56
    for s, (width, least, most) in enumerate(((128, 1, 2), (256, 2, 3), (512, 3, 6), (1024, 1, 3))):
        depth = f"stage{s + 1}.depth"
        made.append(Decision(depth, "choice", tuple(range(least, most + 1)), declaration="depth"))
        for i in range(most):
            present: Value = True
            if i >= least:
                present = option(depth, most - least + 1, *range(i + 1 - least, most - least + 1))
            block = f"stage{s + 1}[{i}]"
            stride = 2 if s and i == 0 else 1
            pixels, size = size**2, size // stride
            cost, weights = _trio(made, block, present, before, width, pixels, size)
            macs.append(choose(present, cost, 0))
            params.append(choose(present, weights, 0))
            before = width
    return Graph({}, {d.path: d for d in made}, (), ()), {"macs": add(*macs), "params": add(*params)}


def _trio(
    made: list[Decision], block: str, present: Value, before: int, width: int, pixels: int, size: int
) -> tuple[Value, Value]:
    half, whole = Fraction(1, 2), 1
    op = f"{block}.op"
    made.append(Decision(op, "choice", ("conv", "local", "axial"), present=present, declaration="op"))

    def inner(name: str, items: tuple[int | Fraction, ...], *ops: int) -> str:
        path = f"{block}.{name}"
        there = both(present, option(op, 3, *ops))
        made.append(Decision(path, "choice", items, present=there, declaration=name))
        return path

    after = size**2
    middle = {
        0: Case(inner("conv.rate", (Fraction(1, 8), Fraction(1, 4)), 0), (width // 8, width // 4)),
        1: Case(inner("local.rate", (Fraction(1, 4), half), 1), (width // 4, width // 2)),
        2: Case(inner("axial.rate", (Fraction(1, 4), half), 2), (width // 4, width // 2)),
    }
    area = Case(inner("kernel", (3, 5, 7), 0), (9, 25, 49))
    macs = [multiply(after, middle[0], middle[0], area)]
    params = [multiply(middle[0], middle[0], area)]
    window = Case(inner("window", (3, 5, 7), 1), (9, 25, 49))
    for number, span in ((1, window), (2, 2 * size)):
        name = ("local", "axial")[number - 1]
        queries = Case(inner(f"{name}.qk", (half, whole), number), (half, whole))
        values = Case(inner(f"{name}.value", (half, whole), number), (half, whole))
        heads = Case(inner(f"{name}.heads", (4, 8), number), (4, 8))
        projections = multiply(middle[number], middle[number], add(multiply(2, queries), values))
        products = multiply(middle[number], span, add(queries, values))
        macs.append(multiply(after, add(projections, products, multiply(heads, span))))
        params.append(add(projections, multiply(heads, span)))
    outer = [add(multiply(pixels * before + after * width, mid)) for mid in middle.values()]
    cost: Value = 0
    weights: Value = 0
    for number in range(3):
        here = option(op, 3, number)
        cost = add(cost, choose(here, add(outer[number], macs[number]), 0))
        weights = add(weights, choose(here, add(multiply(before + width, middle[number]), params[number]), 0))
    return cost, weights
