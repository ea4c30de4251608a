"""Steps of the paths by which a graph names its nodes: `stage[2].parallel[1/8].repeat[0].block`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

STEP = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+")


def stage_of(path: str) -> str:
    """The first step of a path with its index, such as `stage[2]`."""
    first, *rest = STEP.findall(path)
    return first + (rest[0] if rest and rest[0].startswith("[") else "")


def prefixes(path: str, whole: bool = False) -> list[str]:
    """The paths that a path lies under, the longest first."""
    out = [path] if whole else []
    ends = [match.end() for match in STEP.finditer(path)]
    return out + [path[:end] for end in reversed(ends[:-1])]


@lru_cache(maxsize=1 << 16)
def without_indices(path: str) -> str:
    """A path without the numbers that tell copies apart."""
    return re.sub(r"\[\d+\]", "", path)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last step of each path, with as many before it as tell them apart."""
    steps = [STEP.findall(path) for path in paths]
    names = []
    for mine in steps:
        n = 1
        while n < len(mine) and (mine[-n].startswith("[") or sum(s[-n:] == mine[-n:] for s in steps) > 1):
            n += 1
        text = "".join(step if step.startswith("[") else f".{step}" for step in mine[-n:]).removeprefix(".")
        names.append(text)
    return names
