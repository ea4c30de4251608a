"""A small space that checks are made in, where none is given."""

from __future__ import annotations

from functools import cache

from nasdsl.api.given import SpaceLike, space_like
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import Numbering, sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space

TEXT = """
space odds {
  input 1 x 8 x 8

  operator body(out) = oneof(
    plain: conv(out, kernel: 3)
    deep: { conv(out, kernel: oneof(1, 3)) -> conv(out) }
  )

  network {
    stem: conv(4)
    a: body(oneof(4, 8))
    repeat oneof(0..1) { body(8) }
    classify(classes: 10)
  }
}
"""
"""A few dozen architectures, with decisions of which the presence of others hangs."""

MOST_LISTED = 2000


@cache
def small() -> Space:
    return elaborate(Source(TEXT))


def space_or_small(space: SpaceLike | None) -> Space:
    return small() if space is None else space_like(space)


def some_of(space: Space, most: int = MOST_LISTED, seed: int = 0) -> list[Architecture]:
    """All architectures of a space, or as many random ones."""
    numbering = Numbering(space.graph)
    if numbering.total <= most:
        return [numbering.unrank(i) for i in range(numbering.total)]
    return list(dict.fromkeys(sample(space.graph, most, seed)))
