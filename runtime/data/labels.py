"""What the values of masks mean: looked through, and mapped to classes or refused, never guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Bytes, decode, spread, upright

if TYPE_CHECKING:
    from PIL.Image import Image

IGNORE = 255
"""The label of pixels that count for nothing, in every segmentation data set as it leaves a reader."""
WRONG = 254
"""Marks, in a table of labels, values that no mask of the data set may hold."""
VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored", "unknown", "undefined"})
MOST_MASKS = 2000
"""More are not looked through to find out what labels there are."""
LOOKED_AT = 256
"""So many masks are looked at where the classes are known."""
MOST_COLOURS = 64
"""More colours are those of a photograph."""
CLASS_LISTS = ("classes.txt", "labels.txt", "class_dict.csv", "label_colors.txt", "labelmap.txt", "_classes.csv")
HELP = "list all classes in classes.txt, one a line: NAME in the order of labels, or LABEL NAME, or RED GREEN BLUE NAME"

Values = NDArray[np.int32]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """What the values of a mask mean: `table[value]` is a class, IGNORE or WRONG.

    Attributes:
        colours: where masks are told apart by their colours, the same by 0xRRGGBB; other colours are WRONG.
        white: the value of the white pixels of masks of one bit, which others may have as 1 or as 255.
        notes: what there is to say of it, a line each.
    """

    classes: tuple[str, ...]
    table: Bytes = field(compare=False)
    colours: Mapping[int, int] | None = field(default=None, compare=False)
    white: int = 1
    notes: tuple[str, ...] = ()

    def mapped(self, mask: Image, where: str) -> Bytes:
        """The classes (H, W) of a mask's pixels.

        Raises:
            DataError: a value has no class, or the mask is no image of labels.
        """
        if self.colours is not None:
            colours = colours_of(mask, where)
            known, inverse = np.unique(colours, return_inverse=True)
            found = np.array([self.colours.get(one, WRONG) for one in known.tolist()], dtype=np.uint8)[inverse]
            found, shown = found.reshape(colours.shape), "colour"
            values = colours
        else:
            values, shown = values_of(mask, where, self.white), "label"
            found = self.table[values]
        if (found == WRONG).any():
            value = int(values[found == WRONG][0])
            named = f"#{value:06x}" if shown == "colour" else str(value)
            raise DataError(f"{where} has the {shown} {named}, but there are {len(self.classes)} classes", help=HELP)
        return found


@dataclass(frozen=True)
class Named:
    """One line of a list of classes. `value` is its label where the line has it."""

    name: str
    value: int | None = None
    colour: Colour | None = None

    @property
    def void(self) -> bool:
        """Whether its pixels count for nothing."""
        return self.name.lower() in VOID_NAMES


def class_list(files: Files) -> list[Named] | None:
    """The classes that a list beside the data names (`classes.txt` or one of its kin), in order of label; or None.

    Raises:
        DataError: its lines differ in form, or say something twice.
    """
    name = next(iter(name_of_list(files)), None)
    if name is None:
        return None
    lines = [line.strip() for line in files.text(name).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    numbers = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
    coloured = [
        re.fullmatch(rf"{numbers}[\s,;:]+(?P<name>\S.*?)", line)
        or re.fullmatch(rf"(?P<name>.*?\S)[\s,;:]+{numbers}[\s:]*", line)
        for line in lines
    ]
    if sum(one is not None for one in coloured) >= max(1, len(lines) - 1):  # a table may have a head
        kept = [
            (one["name"], tuple(int(part) for part in one.groups() if part.isdecimal())[:3])
            for one in coloured[coloured[0] is None :]
            if one is not None
        ]
        found = [Named(label.strip(), None, (int(c[0]), int(c[1]), int(c[2]))) for label, c in kept]
    elif numbered := [line for line in lines if re.fullmatch(r"\d+[\s:,;]+\S.*", line)]:
        if len(numbered) < len(lines) - (name.endswith(".csv") and lines[0] not in numbered):
            raise DataError(f"{files.at(name)}: some lines begin with a label, and others do not", help=HELP)
        parts = [re.split(r"[\s:,;]+", line, maxsplit=1) for line in numbered]
        found = [Named(label.strip(), int(value)) for value, label in parts]
    else:
        found = [Named(line) for line in lines]
    at = files.at(name)
    if not 1 <= len(found) < WRONG:
        raise DataError(f"{at}: a mask can have 1 to {WRONG - 1} classes, not {len(found)}")
    if any(max(one.colour or (one.value or 0,)) > IGNORE for one in found):
        raise DataError(f"{at}: labels and colours are numbers from 0 to 255")
    for what in ("value", "colour"):
        given = [getattr(one, what) for one in found if getattr(one, what) is not None]
        if len(set(given)) < len(given):
            raise DataError(f"{at}: a {'label' if what == 'value' else 'colour'} comes twice")
    return found


# --- Values -----------------------------------------------------------------------------------------------------------


def values_of(mask: Image, where: str, white: int = 1) -> Values:
    """The labels (H, W) in a mask: grey levels, palette indices, or 0 and `white` of an image of one bit.

    Raises:
        DataError: the mask is a colour picture, was packed with loss, or has labels above 255.
    """
    _check_packing(mask, where)
    if mask.mode in ("LA", "RGB", "RGBA", "PA"):
        colours = colours_of(mask, where)
        if _coloured(colours):
            raise DataError(f"{where} is a colour picture ({mask.mode}), not a mask", help=HELP)
        return colours & 255
    if mask.mode not in ("L", "P", "1") and not mask.mode.startswith("I"):
        raise DataError(
            f"{where} is a picture in {mask.mode}, not a mask",
            help="a mask is an 8-bit grey, palette or colour image that tells classes apart",
        )
    values = np.asarray(mask).astype(np.int32)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= IGNORE:
        found = np.unique(values)
        wrong = [int(one) for one in found if not 0 <= one <= IGNORE]
        raise DataError(
            f"{where} has the label {wrong[-1]}; labels are 0 to 255, and it has {some(map(str, found.tolist()), 12)}"
        )
    return values * white if mask.mode == "1" else values


def colours_of(mask: Image, where: str) -> Values:
    """The colours (H, W) of a mask as 0xRRGGBB.

    Raises:
        DataError: the mask was packed with loss, or is partly transparent.
    """
    _check_packing(mask, where)
    if mask.mode in ("LA", "RGBA", "PA") and int(np.asarray(mask.getchannel("A")).min(initial=255)) < 255:
        raise DataError(f"{where} is partly transparent, which says nothing of a class", help="save it without alpha")
    if mask.mode not in ("LA", "RGB", "RGBA", "PA"):
        return _colour_of_values(mask)[values_of(mask, where)]
    pixels = np.asarray(mask.convert("RGB")).astype(np.int32)
    return (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]


def _colour_of_values(mask: Image) -> Values:
    """The colour (256,) of each label of a mask that is no colour picture."""
    if mask.mode == "P":
        palette = np.zeros((256, 3), dtype=np.int32)
        given = np.array(mask.getpalette("RGB") or [], dtype=np.int32).reshape(-1, 3)
        palette[: len(given)] = given
        return (palette[:, 0] << 16) | (palette[:, 1] << 8) | palette[:, 2]
    grey = np.arange(256, dtype=np.int32)
    grey[1] = 255 if mask.mode == "1" else 1
    return grey * 0x010101


def _coloured(colours: Values) -> bool:
    return bool(((colours >> 16 != colours & 255) | (colours >> 8 & 255 != colours & 255)).any())


def _check_packing(mask: Image, where: str) -> None:
    """
    Raises:
        DataError: the file is of a kind that changes values.
    """
    if mask.format == "JPEG" or mask.info.get("lossy"):
        raise DataError(
            f"{where} is a {mask.format} image, which is packed with loss: its values are not those that were drawn",
            help="save masks as PNG",
        )


# --- Looking through masks --------------------------------------------------------------------------------------------


@dataclass
class Survey:
    """What masks hold, counted in pixels.

    Attributes:
        masks, of: how many were looked at, of how many.
        values, white: by label; and the pixels that masks of one bit have as white, which are in neither.
        palette: the colour of each index that is used, and `clash`: whether masks differ in that.
        present: what is in each mask: labels, or colours where some are told apart by these.
    """

    masks: int
    of: int
    values: Counter[int] = field(default_factory=Counter)
    white: int = 0
    colours: Counter[int] = field(default_factory=Counter)
    palette: dict[int, int] = field(default_factory=dict)
    clash: bool = False
    coloured: str = ""
    present: list[frozenset[int]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all masks were looked at."""
        return self.masks == self.of

    @property
    def pixels(self) -> int:
        """All that were looked at."""
        return sum(self.colours.values())


def survey(files: Files, masks: Sequence[str], most: int) -> Survey:
    """Looks through at most so many masks, spread over all.

    Raises:
        DataError: one is no mask: a photograph, packed with loss, partly transparent, or damaged.
    """
    chosen = [masks[i] for i in spread(len(masks), most)]
    found = Survey(len(chosen), len(masks))
    for name in chosen:
        where = files.at(name)
        mask = mask_image(files, name)
        if mask.mode in ("LA", "RGB", "RGBA", "PA"):
            _add_colours(found, colours_of(mask, where), where)
        else:
            _add_values(found, values_of(mask, where), mask)
    return found


def _add_values(found: Survey, values: Values, mask: Image) -> None:
    counts = np.bincount(values.ravel(), minlength=256)
    by_value = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    colour = _colour_of_values(mask)
    for value, count in by_value.items():
        found.colours[int(colour[value])] += count
        if mask.mode == "1" and value == 1:
            found.white += count
        else:
            found.values[value] += count
        if mask.mode == "P":
            found.clash |= found.palette.setdefault(value, int(colour[value])) != int(colour[value])
    found.present.append(frozenset(by_value))


def _add_colours(found: Survey, colours: Values, where: str) -> None:
    kinds, counts = np.unique(colours, return_counts=True)
    if len(kinds) > 2 * IGNORE:
        raise DataError(
            f"{where} has {len(kinds):,} colours: it is a photograph, not a mask",
            help="a mask is an 8-bit grey, palette or colour image with one value for each class",
        )
    found.colours.update(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))
    if _coloured(kinds):
        found.coloured = found.coloured or where
    else:
        found.values.update(dict(zip((kinds & 255).tolist(), counts.tolist(), strict=True)))
    found.present.append(frozenset(kinds.tolist()))


def mask_image(files: Files, name: str) -> Image:
    """A mask, turned upright as its image is; `lossy` in its `info` tells that WebP has changed its values."""
    content = files.read(name)
    mask = decode(content, files.at(name))
    packing, turned = mask.format, upright(mask)
    turned.format = packing
    if packing == "WEBP" and b"VP8L" not in content[:64]:
        turned.info["lossy"] = True
    return turned


# --- Deciding ---------------------------------------------------------------------------------------------------------


def labels_of(files: Files, found: Survey, named: Sequence[Named] | None) -> Labels:
    """What the values of masks mean, from a list of classes, or else from the values themselves.

    Raises:
        DataError: that cannot be told: some values have no class, or may mean two things.
    """
    table = {packed(one.colour): one for one in named or () if one.colour is not None}
    by_colour = bool(found.coloured) or found.clash or (bool(table) and found.colours.keys() <= table.keys())
    if by_colour:
        return _by_colour(files, found, named, table)
    white = _white(files, found)
    counts = Counter(found.values)
    if found.white:
        counts[white] += found.white
    if not counts:
        raise DataError(f"{files.title}: there is no pixel in its masks")
    if named is None:
        return _by_value(files, found, counts, white)
    return _by_name(files, found, counts, white, named)


def packed(colour: Colour) -> int:
    """0xRRGGBB."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _white(files: Files, found: Survey) -> int:
    """What the white of masks of one bit is in the others.

    Raises:
        DataError: these have both 1 and 255.
    """
    others = found.values.keys() - {0}
    if found.white and {1, 255} <= others:
        raise DataError(
            f"{files.title}: some masks are black and white, and others have the labels {_listed(others)}: "
            "is white 1 or 255?",
            help="save all masks as 8-bit grey images",
        )
    return 255 if others == {255} else 1


def _by_value(files: Files, found: Survey, counts: Counter[int], white: int) -> Labels:
    values = sorted(counts)
    rest = [value for value in values if value != IGNORE]
    ignored = False
    if IGNORE in counts and len(rest) != 1:
        ignored = len(rest) > 1 and rest in (list(range(len(rest))), list(range(1, len(rest) + 1)))
        if not ignored:
            raise DataError(
                f"the masks of {files.title} have the labels {_listed(values)}: is 255 a class, or does it count for "
                "nothing?",
                help=HELP,
            )
    kept = rest if ignored else values
    _several(files, kept)
    table = np.full(256, WRONG, dtype=np.uint8)
    table[IGNORE] = IGNORE
    table[kept] = np.arange(len(kept))
    notes = [_ignored_note({IGNORE: ""}, counts)] if ignored else []
    if kept != list(range(len(kept))):
        notes.append(f"labels: {_listed(kept)} of the masks are the classes {_listed(range(len(kept)))}")
    return Labels(tuple(f"class {value}" for value in kept), table, None, white, tuple(notes))


def _several(files: Files, kept: Sequence[int]) -> None:
    if len(kept) < 2:
        raise DataError(
            f"the masks of {files.title} have one label, {_listed(kept)}: there is nothing to tell apart", help=HELP
        )


def _by_name(files: Files, found: Survey, counts: Counter[int], white: int, named: Sequence[Named]) -> Labels:
    given = [i if one.value is None else one.value for i, one in enumerate(named)]
    notes: list[str] = []
    rest = sorted(counts.keys() - {IGNORE})
    in_order = found.whole and len(counts) == len(named) and all(one.value is None for one in named)
    strangers = [value for value in rest if value not in given]
    lonely = IGNORE in counts and IGNORE not in given and len(rest) < 2 <= len(named) and found.whole
    if (strangers or lonely) and in_order:
        given = sorted(counts)
        pairs = [f"{value} {one.name}" for value, one in zip(given, named, strict=True)]
        notes.append(f"labels: the masks have {_listed(given)}, which are the listed classes in order: {some(pairs)}")
    elif strangers:
        raise DataError(
            f"the masks of {files.title} have the label {strangers[0]}, but there are {len(named)} classes: "
            f"they have {_listed(counts)}",
            help=HELP,
        )
    elif lonely:
        names = some([one.name for one in named])
        raise DataError(
            f"the masks of {files.title} have the labels {_listed(counts)}, and the classes are {names}: "
            "is 255 a class, or does it count for nothing?",
            help=HELP,
        )
    kept: list[str] = []
    where: dict[int, str] = {}
    table = np.full(256, WRONG, dtype=np.uint8)
    table[IGNORE] = IGNORE
    for value, one in zip(given, named, strict=True):
        table[value] = IGNORE if one.void else len(kept)
        where[value] = one.name
        kept += [] if one.void else [one.name]
    ignored = {value: one.name for value, one in zip(given, named, strict=True) if one.void}
    if IGNORE in counts and IGNORE not in given:
        ignored[IGNORE] = ""
    if ignored:
        notes.append(_ignored_note(ignored, counts))
    never = [where[value] for value in given if value not in counts and value not in ignored]
    if never and found.whole:
        notes.append(f"warning: no pixel of the masks is {some(never)}")
    return Labels(tuple(kept), table, None, white, tuple(notes))


def _by_colour(files: Files, found: Survey, named: Sequence[Named] | None, table: Mapping[int, Named]) -> Labels:
    colours = sorted(found.colours)
    shown = some([f"#{colour:06x}" for colour in colours], 12)
    if named is None:
        if len(colours) > MOST_COLOURS or not found.whole:
            raise DataError(f"the masks of {files.title} have {len(colours):,} colours: {shown}", help=HELP)
        _several(files, colours)
        note = f"labels: the colours {shown} of the masks are the classes {_listed(range(len(colours)))}"
        classes = tuple(f"#{colour:06x}" for colour in colours)
        numbers = {colour: i for i, colour in enumerate(colours)}
        return Labels(classes, np.full(256, WRONG, dtype=np.uint8), numbers, notes=(note,))
    strangers = [colour for colour in colours if colour not in table]
    if strangers:
        first = f", the first in {found.coloured}" if found.coloured else ""
        raise DataError(
            f"the masks of {files.title} are colours{first}, and {len(strangers)} of them are of no listed class: "
            f"{some([f'#{colour:06x}' for colour in strangers], 12)}",
            help=HELP,
        )
    kept = list(dict.fromkeys(one.name for one in table.values() if not one.void))
    numbers = {colour: IGNORE if one.void else kept.index(one.name) for colour, one in table.items()}
    notes = ["labels: the masks are told apart by the listed colours"]
    ignored = {colour: one.name for colour, one in table.items() if one.void}
    if ignored:
        notes.append(f"ignored: {', '.join(f'#{colour:06x} {name}' for colour, name in ignored.items())}")
    never = [one.name for colour, one in table.items() if colour not in found.colours and not one.void]
    if never and found.whole:
        notes.append(f"warning: no pixel of the masks is {some(never)}")
    return Labels(tuple(kept), np.full(256, WRONG, dtype=np.uint8), numbers, notes=tuple(notes))


def _ignored_note(ignored: Mapping[int, str], counts: Counter[int]) -> str:
    parts = [f"{value} {name}".strip() for value, name in sorted(ignored.items())]
    share = sum(counts[value] for value in ignored) / max(1, sum(counts.values()))
    return f"ignored: label {', '.join(parts)}, {100 * share:.3g} % of the pixels"


def _listed(values: Iterable[int]) -> str:
    return some(map(str, sorted(values)), 12)


def name_of_list(files: Files) -> tuple[str, ...]:
    """The member that lists the classes, if there is one: at the top, or in a folder of it."""
    near = {name.rpartition("/")[2].lower(): name for name in reversed(files.names) if name.count("/") < 2}
    return tuple(near[one] for one in CLASS_LISTS if one in near)[:1]
