"""`extend(1)`: coarser levels behind those that come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from nasdsl.compiler import bound, ops
from nasdsl.compiler.diagnostics import Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import check_equal, select
from nasdsl.compiler.elaborate.steps import apply
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr, tree
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr

MOST_LEVELS = 30


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Coarser levels behind those that come in: the operator is applied to the coarsest one, again and again.

    Without an operator every second pixel is taken. Where choices decide which levels come in, the coarsest is the
    coarsest one that is there.
    """
    operator = value.arguments.get("by", _every_second(value, frame))
    tensors = list(bundle(flow))
    if not tensors or any(tensor.lost for tensor in tensors):
        return v.LOST if tensors else None
    if any(isinstance(tensor.shape.scale, Expr) for tensor in tensors):
        raise error("not-constant", "`extend` needs branches whose scales no choice changes", span)
    try:
        place_of = {tree.apply("level_of", tensor.shape.scale): i for i, tensor in enumerate(tensors)}
    except ValueError:
        raise error("bad-scale", "`extend` needs scales that are powers of 1/2", span) from None
    there = {level: tensors[i].present for level, i in place_of.items()}
    wanted = _levels_wanted(value, there)
    last: Tensor | None = None
    for level in range(min(there), max((*wanted, *there)) + 1):
        own = tensors[place_of[level]] if level in there else None
        behind = expr.negate(expr.either(*[present for other, present in there.items() if other >= level]))
        needed = expr.both(behind, expr.either(*[asked for n, asked in wanted.items() if n >= level]))
        if last is not None and frame.builder.possible(needed):
            if (last.shape.height, last.shape.width) == (1, 1):
                message = f"level {level} is no coarser than level {level - 1}, which has a single pixel left"
                warning = Diagnostic("one-pixel", message, value.spans["levels"], severity="warning")
                frame.builder.report([warning])
            inner = frame.when(needed).under(f"{name}[{v.show(Fraction(1, 2**level))}]").but(incoming=last)
            made = apply(operator, last, inner, "", span)
            if made is None or v.is_lost(made):
                return v.LOST
            assert isinstance(made, Tensor)
            message = "the operator of `extend` does not halve the scale"
            place, scale = value.spans.get("by", span), Fraction(1, 2**level)
            check_equal(made.shape.scale, scale, "scale-mismatch", message, inner, place, span)
            made = replace(made, present=expr.both(made.present, needed))
            if own is None:
                last = made
                if level in wanted:
                    tensors.append(replace(made, present=expr.both(made.present, wanted[level])))
            else:
                both = select([(own.present, own), (made.present, made)], inner.under("select"), span)
                assert isinstance(both, Tensor)
                last = tensors[place_of[level]] = both
            there[level] = last.present
        elif own is not None:
            last = own
    for level, asked in wanted.items():
        scale = Fraction(1, 2**level)
        message = f"no branch comes in at level {level} (scale {v.show(scale)}), and one that is coarser does"
        usage = "levels are only made behind the coarsest one that comes in"
        missing = Diagnostic("no-such-branch", message, value.spans["levels"], help=usage)
        found = expr.either(*[tensor.present for tensor in tensors if tensor.shape.scale == scale])
        frame.builder.prove(found, frame.when(asked), missing)
    return Branches(tuple(tensors))


def _levels_wanted(value: v.Invocation, there: Mapping[int, Value]) -> dict[int, Value]:
    """The levels that `extend` is asked for, each with the condition under which it is."""
    levels, place = value.arguments["levels"], value.spans["levels"]
    if isinstance(levels, int) and not isinstance(levels, bool) and 0 < levels <= MOST_LEVELS:
        out: dict[int, Value] = {}
        for level, present in there.items():  # so many behind the coarsest one
            coarsest = expr.both(present, expr.negate(expr.either(*[p for n, p in there.items() if n > level])))
            for n in range(level + 1, level + levels + 1):
                out[n] = expr.either(out.get(n, False), coarsest)
        return out
    items = (
        levels.items
        if isinstance(levels, v.Guarded)
        else [(n, True) for n in levels]
        if isinstance(levels, tuple)
        else ()
    )
    if not items or not all(isinstance(n, int) and 0 <= n <= MOST_LEVELS for n, _ in items):
        message = f"`extend` takes how many levels to add, or a list of levels, up to {MOST_LEVELS}"
        raise error(
            "bad-argument", message, place, f"this is {v.describe(levels)}", help="write `extend(1)` or `extend(2..6)`"
        )
    return {n: expr.either(*[asked for m, asked in items if m == n]) for n, _ in items}


def _every_second(value: v.Invocation, frame: Frame) -> v.Invocation:
    pool = ops.find("max_pool")
    assert pool is not None
    arguments = {p.name: p.default for p in pool.params} | {"kernel": 1, "stride": 2}
    return v.Invocation(pool, arguments, value.path, value.span, None, frame)


FORM = bound.Form(
    "extend",
    (
        bound.Parameter(
            "levels",
            doc="how many levels are added behind the coarsest, or a list of levels that there are to be, `3..7`",
            missing="`extend` needs levels",
            usage="write `extend(1)` for one more level",
        ),
        bound.Parameter(
            "by", "step", "what makes a level of the one before it, by halving; left out, every second pixel"
        ),
    ),
    run,
    "adds coarser branches",
    "Level n has 1/2^n of the resolution of the input. An operator is applied again and again, each time with "
    "weights of its own.",
    Example(
        """
        branches(conv(16, stride: 8), conv(16, stride: 16))
        extend(1, by: conv(16, kernel: oneof(1, 3), stride: 2))
        concat(scale: finest)
    """,
        2,
        input="3 x 64 x 64",
    ),
)
