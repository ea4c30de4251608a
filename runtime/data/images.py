"""From the bytes of an image to `uint8` tensors of a fixed size, kept in memory where they fit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasdsl.runtime.data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""


FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
"""What is decoded, whatever the file is called. Pillow knows more, some by running another program."""
MOST_PIXELS = 89_478_485
"""Of an image, as Pillow warns of: a quarter of a gigabyte in colour, which a few bytes may unpack to."""


_MEAN = {1: (114,), 3: (124, 116, 104)}


def mean_colour(channels: int) -> tuple[int, ...]:
    """ImageNet's mean, of grey or of colour: what has it beside an image is about 0 once it is normalised."""
    return _MEAN[channels]


def decode(data: bytes, where: str) -> Image:
    """The image in `data`, fully read. `where` is how a message names it.

    Raises:
        DataError: it is not an image of a format that is read, cut short or damaged, or too large.
    """
    image = _opened(data, where)
    try:
        image.load()
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"{where} is not an image that can be read: {error}") from error
    return image


def image_size(data: bytes, where: str) -> Size:
    """Height and width, of the image turned upright, from the header alone."""
    with _opened(data, where) as image:
        sides = image.height, image.width
        return sides[::-1] if orientation(image) in TURNED else sides


ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)
"""Orientations that exchange height and width."""


def orientation(image: Image) -> int:
    """How a camera noted that it was held (EXIF), from 1 to 8; 1 is upright, and what is damaged."""
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}:
        return 1  # Pillow would decode the image to look behind it
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises nearly anything on damaged notes; the image itself is all right
        return 1
    return found if found in range(1, 9) else 1


def upright(image: Image, size: Size | None = None) -> Image:
    """The image as its camera noted that it was held, as viewers show it.

    Args:
        size: of what an annotation of it was made for; where that is the size of the stored pixels and not that of the
            upright ones, it was made before turning, and the image stays as it is stored.
    """
    from PIL import Image as pillow

    how = orientation(image)
    move = pillow.Transpose
    moves = {
        2: move.FLIP_LEFT_RIGHT, 3: move.ROTATE_180, 4: move.FLIP_TOP_BOTTOM, 5: move.TRANSPOSE,
        6: move.ROTATE_270, 7: move.TRANSVERSE, 8: move.ROTATE_90,
    }  # fmt: skip
    stored = (image.height, image.width)
    before = how in TURNED and size == stored and size != stored[::-1]
    return image if how == 1 or before else image.transpose(moves[how])


def _opened(data: bytes, where: str) -> Image:
    """An image of which the header is read."""
    from PIL import Image, UnidentifiedImageError

    most = f"at most {MOST_PIXELS:,} pixels are read"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{where} is too large an image", help=most) from error
    except UnidentifiedImageError:
        formats = ", ".join(FORMATS)
        raise DataError(f"{where} is not an image that can be read", help=f"{formats} can be read") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"{where} is not an image that can be read: {error}") from error
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"{where} has {image.width:,} x {image.height:,} pixels", help=most)
    return image


BLACK_TO_WHITE = {"16-bit": (0.0, 65535.0), "32-bit": (0.0, 65535.0), "float": (0.0, 1.0)}
"""What counts as black and as white in pixels that are not of 8 bits."""
FLOAT_ROUNDING = 0.01
"""So far beyond black and white floats may be, as resampling leaves them."""


def depth(image: Image) -> str:
    """What numbers the pixels of an image are: `8-bit`, `16-bit`, `32-bit` or `float`."""
    if image.mode.startswith("I;16"):
        return "16-bit"
    return {"I": "32-bit", "F": "float"}.get(image.mode, "8-bit")


def coloured(image: Image, channels: int, where: str = "the image") -> Image:
    """`image` as 8-bit grey (1 channel) or RGB (3 channels).

    Numbers of 16 and of 32 bits are those of 0 to 65,535, floats those of 0 to 1. Palettes, CMYK and other colours
    become RGB; what is transparent is laid over white.

    Raises:
        DataError: there are numbers beyond these.
    """
    from PIL import Image as pillow

    kind = depth(image)
    if kind != "8-bit":
        image = pillow.fromarray(_scaled(np.asarray(image), kind, where))
    elif image.has_transparency_data:
        seen = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", seen.size, "white"), seen)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _scaled(values: NDArray[Any], kind: str, where: str) -> Bytes:
    """
    Raises:
        DataError: there are values beyond black and white.
    """
    black, white = BLACK_TO_WHITE[kind]
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    slack = FLOAT_ROUNDING * white if kind == "float" else 0
    if not (black - slack <= low and high <= white + slack):
        raise DataError(
            f"{where} has {kind} pixels from {low:g} to {high:g}, and they are read as {black:g} to {white:,g}",
            help="save them as 8-bit or 16-bit images",
        )
    found: Bytes = (values.clip(black, white) * (255 / white) + 0.5).astype(np.uint8)
    return found


def planes(image: Image) -> Bytes:
    """The pixels as a new array of shape (C, H, W)."""
    pixels: Bytes = np.asarray(image, dtype=np.uint8)
    return np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C")


def centre_cut(image: Image, size: Size, fraction: float = 1.0) -> Image:
    """The greatest centred part with the aspect of `size`, times `fraction`, resized (bicubic, anti-aliased)."""
    from PIL.Image import Resampling

    height, width = size
    if (image.height, image.width) == size and fraction == 1.0:
        return image
    scale = fraction * min(image.width / width, image.height / height)
    half_w, half_h = width * scale / 2, height * scale / 2
    cx, cy = image.width / 2, image.height / 2
    box = (max(cx - half_w, 0), max(cy - half_h, 0), min(cx + half_w, image.width), min(cy + half_h, image.height))
    return image.resize((width, height), Resampling.BICUBIC, box=box)


def fit_inside(image: Image, size: Size, fill: int, how: Literal["smooth", "nearest"]) -> Image:
    """All of the image at the greatest scale that fits `size`, at the top left; the rest is `fill`."""
    from PIL import Image as pillow

    height, width = size
    if (image.height, image.width) == size:
        return image
    inner = inner_size((image.height, image.width), size)[::-1]
    resample = pillow.Resampling.BICUBIC if how == "smooth" else pillow.Resampling.NEAREST
    resized = image.resize(inner, resample)
    if inner == (width, height):
        return resized
    canvas = pillow.new(image.mode, (width, height), fill if len(image.getbands()) == 1 else (fill,) * 3)
    canvas.paste(resized, (0, 0))
    return canvas


def inner_size(original: Size, size: Size) -> Size:
    """Of an image at the greatest scale that fits `size`, in whole pixels."""
    scale = min(size[0] / original[0], size[1] / original[1])
    return min(size[0], max(1, round(original[0] * scale))), min(size[1], max(1, round(original[1] * scale)))


def resized_to(image: Image, size: Size) -> Image:
    """All of the image, bicubic and anti-aliased."""
    from PIL.Image import Resampling

    return image if (image.height, image.width) == size else image.resize(size[::-1], Resampling.BICUBIC)


def crop_box(image: Image, box: tuple[float, float, float, float], size: Size) -> Image:
    """The part `box` (left, top, right, bottom; may leave the image, black there), bilinear, at `size`.

    Pixel i covers [i, i + 1), so point x goes to (x - left) * width / (right - left).
    """
    from PIL.Image import Resampling, Transform

    return image.transform((size[1], size[0]), Transform.EXTENT, box, Resampling.BILINEAR)


def common_size(sizes: Iterable[Size]) -> Size | None:
    """The size that all share, or None."""
    distinct = set(sizes)
    return distinct.pop() if len(distinct) == 1 else None


def spread(count: int, most: int) -> list[int]:
    """At most `most` indices spread evenly over `range(count)`."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


class Cached:
    """`count` arrays of one `shape` (uint8), each computed on first use and then kept if all fit in `limit` bytes.

    Several threads may take at once: computing one entry twice gives the same bytes.
    """

    def __init__(self, count: int, shape: tuple[int, ...], compute: Callable[[int], Bytes], limit: int) -> None:
        self.shape = shape
        self._count = count
        self._compute = compute
        self.kept = count * int(np.prod(shape)) <= limit
        self._store = torch.empty((count, *shape) if self.kept else (0,), dtype=torch.uint8)
        self._ready = np.zeros(count if self.kept else 0, dtype=bool)

    @classmethod
    def of(cls, values: Tensor) -> Cached:
        """A cache that is already full: `values` is (N, ...) uint8."""
        full = cls(0, tuple(values.shape[1:]), _never, 0)
        full.kept, full._count, full._store = True, len(values), values
        full._ready = np.ones(len(values), dtype=bool)
        return full

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Sequence[int]) -> Tensor:
        """The entries at `indices`, uint8 of shape (B, ...)."""
        if not self.kept:
            return torch.stack([torch.from_numpy(self._compute(i)) for i in indices])
        chosen = np.asarray(indices, dtype=np.int64)
        for i in chosen[~self._ready[chosen]]:
            self._store[i] = torch.from_numpy(self._compute(int(i)))
            self._ready[i] = True
        return self._store[torch.from_numpy(chosen)]


class CachedEach:
    """Arrays (C, H, W) of `shapes` of their own (uint8), each computed on first use; kept if all fit in `limit` bytes.

    Several threads may take at once, as from `Cached`.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], compute: Callable[[int], Bytes], limit: int) -> None:
        self.shapes = np.array(shapes, dtype=np.int64).reshape(-1, 3)
        self._compute = compute
        ends = self.shapes.prod(axis=1).cumsum()
        self._starts = np.concatenate([[0], ends])
        total = int(self._starts[-1])
        self.kept = total <= limit
        self._store = torch.empty(total if self.kept else 0, dtype=torch.uint8)
        self._ready = np.zeros(len(self.shapes) if self.kept else 0, dtype=bool)

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, indices: Sequence[int]) -> list[Tensor]:
        """The entries at `indices`."""
        if not self.kept:
            return [torch.from_numpy(self._compute(i)) for i in indices]
        found = []
        for i in indices:
            entry = self._store[self._starts[i] : self._starts[i + 1]].view(*self.shapes[i].tolist())
            if not self._ready[i]:
                entry.copy_(torch.from_numpy(self._compute(i)))
                self._ready[i] = True
            found.append(entry)
        return found


def _never(index: int) -> Bytes:
    raise AssertionError(f"entry {index} of a full cache was asked to be computed")
