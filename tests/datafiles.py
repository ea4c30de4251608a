"""Data sets made on the spot: images as bytes, and their members as a folder or as a zip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(stream, "png")
    return stream.getvalue()


def flat(value: int, height: int = 6, width: int = 8) -> bytes:
    return png(np.full((height, width, 3), value))


def store(where: Path, members: dict[str, bytes], packed: bool) -> str:
    """The members as a folder or as a zip, so that every layout is read both ways."""
    if packed:
        with zipfile.ZipFile(where / "set.zip", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return str(where / "set.zip")
    for name, content in members.items():
        (where / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "set" / name).write_bytes(content)
    return str(where / "set")
