"""The spaces that ship: programs in the language, by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> tuple[str, ...]:
    """The files that ship, without their ending."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.space")))


def path(name: str) -> Path:
    """The file of a space that ships, such as `hrnas`.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in names():
        raise KeyError(name)
    return FOLDER / f"{name}.space"


def read(name: str) -> str:
    """The text of a space that ships.

    Raises:
        KeyError: there is none of that name.
    """
    return path(name).read_text(encoding="utf-8")
