"""Steps of the paths by which a graph names its nodes: `stage[2].parallel[1/8].repeat[0].block`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

STEP = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+")


def stage_of(path: str) -> str:
    """The first step of a path with its index, such as `stage[2]`."""
    first, *rest = STEP.findall(path)
    return first + (rest[0] if rest and rest[0].startswith("[") else "")


def steps_under(path: str, place: str) -> list[str]:
    """The steps of a path behind one that it lies under; none where it does not."""
    return STEP.findall(path[len(place) :]) if path.startswith((f"{place}.", f"{place}[")) else []


def last_word(path: str) -> str:
    """The last step that is no index."""
    return next(step for step in reversed(STEP.findall(path)) if not step.startswith("["))


def prefixes(path: str, whole: bool = False) -> list[str]:
    """The paths that a path lies under, the longest first."""
    out = [path] if whole else []
    ends = [match.end() for match in STEP.finditer(path)]
    return out + [path[:end] for end in reversed(ends[:-1])]


def common_path(paths: Iterable[str]) -> str:
    """The path that all of some lie under; nothing where they have none in common."""
    steps = [STEP.findall(path) for path in paths]
    same = []
    for column in zip(*steps, strict=False):
        if len(set(column)) > 1:
            break
        same.append(column[0])
    return joined(same)


def joined(steps: Sequence[str]) -> str:
    """Steps as a path."""
    return "".join(step if step.startswith("[") else f".{step}" for step in steps).removeprefix(".")


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
        names.append(joined(mine[-n:]))
    return names
