"""What a reader is, and the splits that they make where none is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Size, common_size, image_size, spread
from nasdsl.runtime.data.splits import DataSplits, Request

Item = TypeVar("Item")


@dataclass(frozen=True)
class Reader:
    """One layout of files for one task.

    `expects` says the layout in a user's words; `accepts` looks at names (and where it must, into files) and answers
    at once; `read` raises DataError for what is wrong inside. `could` says whether files can be read so where the user
    asks for it; by default those that are accepted.
    """

    name: str
    task: str
    expects: str
    accepts: Callable[[Files], bool]
    read: Callable[[Files, Request], DataSplits]
    could: Callable[[Files], bool] | None = None


def hold_out(
    items: Sequence[Item], seed: int, kinds: Sequence[Collection[Hashable]] | None = None, fraction: float = 0.2
) -> tuple[list[Item], list[Item]]:
    """A fixed random part of `items` for validation, the rest for training; both in their order.

    Args:
        kinds: what is in each item, such as its class; as far as that can be, each kind gets its fraction and is in
            both parts.

    Raises:
        DataError: there are not two items.
    """
    if len(items) < 2:
        raise DataError(
            f"there {'is one image' if items else 'are no images'}, and no part of that can be held out to validate",
            help="give more images, or a train and a validation split",
        )
    plain = [(0,)] * len(items)
    chosen = set(stratified(plain if kinds is None else kinds, seed, fraction))
    if not chosen and kinds is not None and all(len(one) == 1 for one in kinds):
        raise DataError(
            "each class has one image, which can be for training or for validation",
            help="give more images of a class, or a train and a validation split",
        )
    chosen = chosen or set(stratified(plain, seed, fraction))
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]


def stratified(kinds: Sequence[Collection[Hashable]], seed: int, fraction: float) -> list[int]:
    """Which of some items to hold out, so that each kind is in both parts, in proportion: the rarest kinds are dealt
    first (iterative stratification, Sechidis et al. 2011). The last item of a kind stays.
    """
    order = np.random.default_rng([seed, 20]).permutation(len(kinds)).tolist()
    having: dict[Hashable, list[int]] = {}
    of = [tuple(dict.fromkeys(one)) or (None,) for one in kinds]
    for i in order:
        for kind in of[i]:
            having.setdefault(kind, []).append(i)
    stays = {kind: len(items) for kind, items in having.items()}
    # Of equal rarity, the first to appear goes first, which the seed decides and the spelling of kinds does not.
    rarest = sorted(having, key=lambda kind: stays[kind])
    wanted = _quotas([stays[kind] for kind in rarest], len(kinds), fraction)
    held: set[int] = set()
    dealt: set[int] = set()
    for kind, quota in zip(rarest, wanted, strict=True):
        missing = quota - (len(having[kind]) - stays[kind])
        for i in having[kind]:
            if missing > 0 and i not in dealt and all(stays[one] > 1 for one in of[i]):
                held.add(i)
                missing -= 1
                for one in of[i]:
                    stays[one] -= 1
            dealt.add(i)
    return sorted(held)


def _quotas(counts: Sequence[int], total: int, fraction: float) -> list[int]:
    """How many of each kind to hold out: at least one and not all where there are two, in proportion otherwise."""
    shares = [fraction * count for count in counts]
    quotas = [min(max(int(share), 1), count - 1) for share, count in zip(shares, counts, strict=True)]
    if sum(counts) == total:  # each item is of one kind, so that the whole can be met, too
        missing = max(1, round(fraction * total)) - sum(quotas)
        for place in sorted(range(len(counts)), key=lambda i: quotas[i] - shares[i])[: max(0, missing)]:
            quotas[place] = min(quotas[place] + 1, max(counts[place] - 1, 0))
    return quotas


def probe_size(files: Files, names: Sequence[str], otherwise: Size) -> Size:
    """The size that 64 images spread over `names` share, or else `otherwise`."""
    return common_size(size_of(files, names[i]) for i in spread(len(names), 64)) or otherwise


def size_of(files: Files, name: str) -> Size:
    """Height and width of an image, from its first bytes where these say it.

    Raises:
        DataError: it is no image.
    """
    try:
        return image_size(files.start(name), files.at(name))
    except DataError:
        return image_size(files.read(name), files.at(name))


def by_cross(size: Size) -> str:
    """A size as people write it, width first: 240x180."""
    return f"{size[1]}x{size[0]}"
