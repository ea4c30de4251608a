"""Kernels: one number, the side of a square, or a list of two, height and width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from nasdsl.compiler.ops.operator import Attrs, Index, Param, ShapeProblem
from nasdsl.compiler.values.expr import (
    Expr,
    Value,
    apply,
    at_most,
    both,
    is_kind,
    multiply,
    options,
    whole,
)
from nasdsl.compiler.values.plain import Symbol, is_number

LARGEST_SIDE = (1 << 12) - 1
KERNEL_IS = "a kernel is a whole number, the side of a square, or a list of two, [height, width]"
SIDE_IS = f"the side of a kernel is a whole number from 1 to {LARGEST_SIDE}"


def kernel_param(default: int | None, doc: str) -> Param:
    """A parameter of any type: `check_kernel` and `kernel_conditions` say what it may be."""
    return Param("kernel", "any", default, doc=f"{doc}; or its height and width, as [1, 7]")


def check_kernel(kernel: Value) -> None:
    """Whether a kernel is one by its form, and plain sides are in range.

    Raises:
        ShapeProblem: it, or one of those to choose from, is not.
    """
    if type(kernel) is int and 1 <= kernel <= LARGEST_SIDE:  # most are
        return
    open_sides = isinstance(kernel, Expr)
    for option in (options(kernel) or ()) if open_sides else (kernel,):
        if isinstance(option, tuple) and len(option) != 2:
            raise ShapeProblem(f"{KERNEL_IS}, and here is a list of {len(option)}", "kernel")
        for side in option if isinstance(option, tuple) else (option,):
            if isinstance(side, Expr):
                continue
            if not is_number(side):
                here = f"`{side.word}`" if isinstance(side, Symbol) else _named(side)
                raise ShapeProblem(f"{KERNEL_IS}, and here is {here}", "kernel")
            if not open_sides and not (side == int(side) and 1 <= side <= LARGEST_SIDE):
                shown = side if isinstance(side, int | Fraction) else f"{side:g}"
                raise ShapeProblem(f"{SIDE_IS}, and this is {shown}", "kernel")


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "a string" if isinstance(value, str) else "neither"


def kernel_conditions(kernel: Value) -> Iterator[tuple[Value, ShapeProblem]]:
    """What has to hold of a kernel for every choice."""
    if not isinstance(kernel, Expr | tuple):
        return
    for side in dict.fromkeys(sides(kernel)):
        if isinstance(side, Expr):
            fits = both(is_kind(side, "number"), whole(side), at_most(1, side), at_most(side, LARGEST_SIDE))
            yield fits, ShapeProblem(f"{SIDE_IS}, whatever is chosen", "kernel")


def sides(kernel: Value) -> tuple[Value, Value]:
    """Height and width."""
    if isinstance(kernel, tuple):
        return kernel[0], kernel[1]
    possible = options(kernel) if isinstance(kernel, Expr) else None
    if possible is None or not any(isinstance(option, tuple) for option in possible):
        return kernel, kernel
    pairs = [
        (option, option if isinstance(option, tuple) else (option, option)) for option in sorted(possible, key=str)
    ]
    height, width = (apply("lookup", tuple((option, pair[i]) for option, pair in pairs), kernel) for i in (0, 1))
    return height, width


def area(kernel: Value) -> Value:
    """Pixels under a kernel."""
    if isinstance(kernel, int):
        return kernel * kernel
    height, width = sides(kernel)
    return multiply(height, width)


def plain_kernel(kernel: Any) -> int | tuple[int, int]:
    """As modules take it: one number for a square."""
    height, width = sides(kernel)
    return height if height == width else (height, width)


def largest_kernel(kernel: Value, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    """For a rule `covers`: the kernel in which all that may be chosen lie; nothing is to be said of a plain number."""
    if not isinstance(kernel, Expr | tuple):
        return {}
    found = []
    for side in sides(kernel):
        bound, possible = greatest(side), options(side) if isinstance(side, Expr) else None
        found.append(min(bound, max(possible)) if possible else bound)  # a bound may be more than any choice gives
    return {"kernel": found[0] if found[0] == found[1] else tuple(found)}


def same_pixels(full: Any, small: Any) -> tuple[Index, Index]:
    """Along both axes the entries of a kernel that a smaller one uses: those over the same pixels.

    A side that is odd has as many pixels before the middle one as behind it, one that is even has one more behind it.
    """
    (height, width), (low, narrow) = sides(full), sides(small)
    return _over_same(height, low), _over_same(width, narrow)


def _over_same(full: int, small: int) -> Index:
    if small > full:
        raise ValueError(f"{small} of {full} entries")
    start = (full - 1) // 2 - (small - 1) // 2
    return None if small == full else slice(start, start + small)


def nested_kernels(larger: Any, smaller: Any, stride: int, dilation: int) -> bool:
    """Whether a kernel with zeros around a smaller one, as `same_pixels` has it, reads the pixels that that one does.

    At a stride, a side that is even starts where the size of the map says (`same` padding).
    """
    return all(
        one == other or (one % 2 and other % 2) or (stride == 1 and (dilation == 1 or one % 2 == other % 2))
        for one, other in zip(sides(larger), sides(smaller), strict=True)
    )


# --- Transformed kernels ----------------------------------------------------------------------------------------------


def check_transformed(kernel: Value) -> None:
    """Whether smaller kernels can be made of larger ones by matrices.

    Raises:
        ShapeProblem: they are not known, or not square.
    """
    possible = options(kernel) if isinstance(kernel, Expr) else (kernel,)
    if possible is None or not all(isinstance(side, int) for side in possible):
        message = "kernels are transformed from one size to the next, and here the sizes are not plain numbers"
        raise ShapeProblem(message, "kernel", "write `kernel: oneof(3, 5, 7)`")


def chosen_kernels(kernel: Value) -> dict[str, Any]:
    """For a rule `covers`: the sizes that a kernel may have, where there are several."""
    possible = options(kernel) if isinstance(kernel, Expr) else None
    return {} if possible is None else {"kernels": frozenset(possible)}


def transforms_of(attrs: Attrs) -> tuple[int, ...]:
    """Sizes from the largest on, of a setting that holds the weights of several; each is made of the one before."""
    return tuple(sorted(attrs.get("kernels", ()), reverse=True))
