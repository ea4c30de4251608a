"""The splits that names of folders and files speak of, in any case and spelling."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasdsl.runtime.data.errors import DataError, some

KINDS = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "validate", "eval", "evaluation", "dev", "valset", "validset"),
    "test": ("test", "testing", "tst", "testset"),
}
"""What each split is called. One to validate on is `val`, or else `test`."""
_KIND = {word: kind for kind, words in KINDS.items() for word in words}


def split_of(word: str) -> str | None:
    """The kind of split that a name speaks of: `train2017` and `Training` are "train", `images_VAL` is "val", `cat`
    is None."""
    return next((_KIND[one] for one in words_of(word) if one in _KIND), None)


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: `JPEGImages_val2` has `jpeg`, `images` and `val`."""
    return [one.lower() for one in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_split(word: str) -> bool:
    """Whether a name is that of a split and says nothing else, as `train`, `Train2017` and `val` do."""
    return re.sub(r"[\d_\-. ]", "", word).lower() in _KIND


def pick_splits(found: Sequence[str], where: str) -> tuple[str, str | None]:
    """The names to train and to validate on (None when there is none) among `found`.

    Raises:
        DataError: there is no train split, or several have the same right to be one.
    """
    train = _only(found, "train", where)
    if train is None:
        raise DataError(f'{where} has no split named "train"; it has {", ".join(sorted(found)) or "none"}')
    return train, _only(found, "val", where) or _only(found, "test", where)


def _only(found: Sequence[str], kind: str, where: str) -> str | None:
    names = sorted(name for name in found if split_of(name) == kind)
    plain = [name for name in names if is_split(name)] or names
    bare = [name for name in plain if name.lower() in KINDS[kind]] or plain
    if len(bare) > 1:
        raise DataError(
            f'{where} has {len(bare)} splits that may be the one for "{kind}": {some(bare)}',
            help="leave one of them where the data is, or name the one annotation file, if there are such",
        )
    return bare[0] if bare else None
