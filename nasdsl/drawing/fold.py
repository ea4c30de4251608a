"""Equal copies, one behind the other or side by side, become one that says how many it stands for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from nasdsl.drawing.paths import without_indices
from nasdsl.drawing.picture import SMALL, Frame, Item, Link, Picture, Row, State

Copies = Mapping[int, Mapping[str, str]]
"""For each index the items of that copy: what stands behind the index in their paths, and their keys."""
Way = Literal["chain", "parallel"]
MOST_IN_BOX = 5  # options of a list that is repeated where it is used


def fold(scene: Picture) -> Picture:
    """The scene and its details with one of several equal copies.

    Copies are equal if their items are, but for indices, if they are linked inside in the same way, and if each reads
    the one before as that reads what stands before it; or, side by side, if all are read by the same items. How many
    of a `repeat` there are is told by the selection behind it, which goes where it has nothing else to select from.
    """
    return replace(_Folding(scene).folded(), details=tuple(map(fold, scene.details)))


class _Folding:
    def __init__(self, scene: Picture):
        self.scene = scene
        self.items: dict[str, Item] = {item.key: item for item in scene.items}
        self.sources: dict[str, dict[str, State]] = {item.key: {} for item in scene.items}
        self.targets: dict[str, dict[str, State]] = {item.key: {} for item in scene.items}
        self.frames: list[Frame] = []
        self.sizes = Counter(item.group for item in scene.items)
        for link in scene.links:
            self._link(link.source, link.target, link.state)

    def folded(self) -> Picture:
        for prefix in sorted({place for key in self.items for place, _, _ in _places(key)}, key=lambda p: (-len(p), p)):
            self._fold_copies(prefix)
        self._fold_siblings()
        items = tuple(self.items[item.key] for item in self.scene.items if item.key in self.items)
        links = tuple(
            Link(source, item.key, state) for item in items for source, state in self.sources[item.key].items()
        )
        permuted = tuple(key for key in self.scene.permuted if key in self.items)
        return replace(self.scene, items=items, links=links, frames=tuple(self.frames), permuted=permuted)

    # --- Links

    def _link(self, source: str, target: str, state: State) -> None:
        states = {state, self.sources[target].get(source, state)}
        order: tuple[State, ...] = ("fixed", "open", "told", "gone")
        best = next(one for one in order if one in states)
        self.sources[target][source] = self.targets[source][target] = best

    def _drop(self, key: str) -> None:
        for source in self.sources.pop(key):
            del self.targets[source][key]
        for target in self.targets.pop(key):
            del self.sources[target][key]
        del self.items[key]

    # --- Copies by index

    def _fold_copies(self, prefix: str) -> None:
        copies: dict[int, dict[str, str]] = {}
        for key in self.items:
            for place, index, rest in _places(key):
                if place == prefix:
                    copies.setdefault(index, {})[rest] = key
        exits = self._exits(prefix, copies)
        runs: list[list[int]] = []
        way: Way | None = None
        for index in sorted(copies):
            following = bool(runs) and index == runs[-1][-1] + 1
            next_way = self._way(copies, index - 1, index, exits) if following else None
            if next_way is not None and way in (None, next_way):
                way = next_way
                runs[-1].append(index)
            else:
                way = None
                runs.append([index])
        for run in runs:
            if len(run) > 1:
                self._merge(copies, run, exits)

    def _way(self, copies: Copies, a: int, b: int, exits: Iterable[str]) -> Way | None:
        """How two copies that are equal stand to each other."""
        first, second = copies[a], copies[b]
        if first.keys() != second.keys() or any(self.items[first[r]].same != self.items[second[r]].same for r in first):
            return None
        if any(self.items[key].count != self.items[second[rest]].count for rest, key in first.items()):
            return None
        back_a, back_b = ({key: rest for rest, key in copy.items()} for copy in (first, second))
        if self._inside(first, back_a) != self._inside(second, back_b):
            return None
        family = {key for copy in copies.values() for key in copy.values()}
        reads_a, reads_b = self._reads(first, back_a), self._reads(second, back_b)
        chained = {source: targets for source, targets in reads_b.items() if source in back_a}
        if chained:
            shared = {source: targets for source, targets in reads_b.items() if source not in back_a}
            if any(source in family or reads_a.get(source) != targets for source, targets in shared.items()):
                return None
            before = [sorted(targets) for source, targets in reads_a.items() if source not in shared]
            if sorted(before) != sorted(sorted(targets) for targets in chained.values()):
                return None
            if not self._read_alike(first, second, exits):
                return None
            return "chain"
        if any(source in family for source in (*reads_a, *reads_b)):
            return None
        if sorted(map(sorted, reads_a.values())) != sorted(map(sorted, reads_b.values())):
            return None
        return "parallel" if self._read_alike(first, second, exits, both=True) else None

    def _inside(self, copy: Mapping[str, str], back: Mapping[str, str]) -> set[tuple[str, str, State]]:
        return {
            (back[source], rest, state)
            for rest, key in copy.items()
            for source, state in self.sources[key].items()
            if source in back
        }

    def _reads(self, copy: Mapping[str, str], back: Mapping[str, str]) -> dict[str, set[str]]:
        """What a copy reads from outside, and where."""
        found: dict[str, set[str]] = {}
        for rest, key in copy.items():
            for source in self.sources[key]:
                if source not in back:
                    found.setdefault(source, set()).add(rest)
        return found

    def _read_alike(
        self, first: Mapping[str, str], second: Mapping[str, str], exits: Iterable[str], both: bool = False
    ) -> bool:
        """Whether others that read a copy read the next one, too; what selects between copies need not.

        Args:
            both: whether what reads the next one has to read the first, too.
        """
        known = {*first.values(), *second.values(), *exits}
        for rest, key in first.items():
            mine, theirs = self.targets[key].keys() - known, self.targets[second[rest]].keys() - known
            if not mine <= theirs or (both and mine != theirs):
                return False
        return True

    def _merge(self, copies: Copies, run: Sequence[int], exits: Mapping[str, frozenset[int]]) -> None:
        first = copies[run[0]]
        inside = {key for index in run for key in copies[index].values()}
        count, told = self._count(copies, run, exits)
        for index in run[1:]:
            for rest, key in copies[index].items():
                kept = first[rest]
                self.items[kept] = replace(self.items[kept], nodes=self.items[kept].nodes + self.items[key].nodes)
                for source, state in self.sources[key].items():
                    if source not in inside:
                        self._link(source, kept, state)
                for target, state in self.targets[key].items():
                    if target not in inside:
                        self._link(kept, target, state)
            for key in copies[index].values():
                self._drop(key)
        self.frames = [frame for frame in self.frames if frame.keys <= self.items.keys()]
        if len(run) == len(copies):
            self._drop_exits(exits, told)
        if len(first) == 1:
            (key,) = first.values()
            self.items[key] = _counted(self.items[key], count)
        else:
            self.frames.append(Frame(count, frozenset(first.values())))

    # --- How many

    def _exits(self, prefix: str, copies: Copies) -> dict[str, frozenset[int]]:
        """What selects between the copies of a `repeat`, and after how many of them it can."""
        depth = {key: index + 1 for index, copy in copies.items() for key in copy.values()}
        found = {}
        for key, item in self.items.items():
            if item.kind == "select" and (key == f"{prefix}.exit" or key.startswith(f"{prefix}.exit[")):
                states = self.sources[key].items()
                found[key] = frozenset(depth.get(source, 0) for source, state in states if state != "gone")
        return found

    def _count(
        self, copies: Copies, run: Sequence[int], exits: Mapping[str, frozenset[int]]
    ) -> tuple[str, frozenset[Row]]:
        """How many copies of a run there are, in words, and the rows that say so, too."""
        depths = sorted(frozenset[int]().union(*exits.values()))
        numbers = sorted({min(max(depth - run[0], 0), len(run)) for depth in depths})
        if numbers in ([], [0]):  # without a choice, or all of them left out
            return f"× {len(run)}", frozenset()
        words = [str(depth) for depth in depths]
        rows = [row for key in exits for row in self.items[key].rows if [text for text, _ in row.options] == words]
        name = f"{rows[0].name} " if rows and len(run) == len(copies) and len(numbers) > 1 else ""
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"× {name}{numbers[0]}–{numbers[-1]}", frozenset(rows)
        return f"× {name}{'|'.join(map(str, numbers))}", frozenset(rows)

    def _drop_exits(self, exits: Iterable[str], told: frozenset[Row]) -> None:
        """A selection that has one input left is part of it, where the count tells its choice."""
        for key in exits:
            item = self.items[key]
            if len(self.sources[key]) > 1 or not told.issuperset(item.rows):
                continue
            (source,) = self.sources[key]
            self.items[source] = replace(self.items[source], nodes=self.items[source].nodes + item.nodes)
            for target, state in list(self.targets[key].items()):
                self._link(source, target, state)
            self._drop(key)

    # --- Siblings

    def _fold_siblings(self) -> None:
        """Items that are equal and follow each other without anything else between, whatever they are called."""
        for first in list(self.items):
            if first not in self.items or self.items[first].count or first in self.scene.permuted:
                continue
            run = [first]
            while (following := self._following(run[-1])) is not None:
                run.append(following)
            if len(run) < 2 or self.items[first].kind in ("input", "output", *SMALL):
                continue
            last = list(self.targets[run[-1]].items())
            nodes = tuple(name for key in run for name in self.items[key].nodes)
            self.items[first] = _counted(replace(self.items[first], nodes=nodes), f"× {len(run)}")
            for key in run[1:]:
                self._drop(key)
            for target, state in last:
                self._link(first, target, state)

    def _following(self, key: str) -> str | None:
        if len(self.targets[key]) != 1:
            return None
        ((target, _),) = self.targets[key].items()
        a, b = self.items[key], self.items[target]
        alike = a.same == b.same and (a.option, a.optional, a.count) == (b.option, b.optional, b.count)
        alike = alike and (a.group == b.group or self.sizes[a.group] == self.sizes[b.group] == 1)
        framed = [frame for frame in self.frames if (key in frame.keys) != (target in frame.keys)]
        return target if alike and len(self.sources[target]) == 1 and not framed else None


def _counted(item: Item, count: str) -> Item:
    """One item for several; where it stands for several already, both are told."""
    return replace(item, count=f"{item.count} {count}" if item.count else count)


def _places(key: str) -> list[tuple[str, int, str]]:
    """The indices of a path: what stands before each, its number, what stands behind it."""
    return [(key[: m.start()], int(m[1]), key[m.end() :]) for m in re.finditer(r"\[(\d+)\]", key)]


def told_once(scene: Picture) -> Picture:
    """The scene with options that several boxes share told once, as a note: long lists, and those of one decision. A
    box then has its name only, or how many options are left, or which one is taken."""
    parts = (scene, *scene.details)
    boxes: dict[tuple[str, ...], list[Item]] = {}
    for part in parts:
        for item in part.items:
            if item.kind == "choice":
                boxes.setdefault(_options(item), []).append(item)
    shared = {options for options, found in boxes.items() if len(found) > 1 and len(options) > MOST_IN_BOX}
    shared |= {options for options, found in boxes.items() if len(found) > len({item.decision for item in found})}
    notes = list(scene.notes)
    for options, found in boxes.items():
        if options in shared and any(taken is None for item in found for _, taken in item.rows[0].options):
            words = [option.replace(" ", "\u00a0") for option in options]  # a line is broken between options
            titles = dict.fromkeys(without_indices(item.title) for item in found)
            notes.append(f"{', '.join(titles)}: {', '.join(words)}")
    told = [
        tuple(_short(i) if i.kind == "choice" and _options(i) in shared else i for i in part.items) for part in parts
    ]
    details = tuple(replace(part, items=items) for part, items in zip(scene.details, told[1:], strict=True))
    return replace(scene, items=told[0], notes=tuple(notes), details=details)


def _options(item: Item) -> tuple[str, ...]:
    return tuple(text for text, _ in item.rows[0].options)


def _short(item: Item) -> Item:
    first, *rest = item.rows
    taken = tuple(option for option in first.options if option[1])
    left = sum(option[1] is None for option in first.options)
    options = taken or ((f"{left} options", None),)
    return replace(item, rows=(*((Row(first.name, options),) if left < len(first.options) else ()), *rest))
