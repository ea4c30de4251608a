"""Checkpoints and weights as files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any
from zipfile import BadZipFile, ZipFile

import torch
from pydantic import BeforeValidator, ConfigDict, Field, Json, field_validator

from nasdsl.compiler.diagnostics import cause, error
from nasdsl.compiler.files import write_whole
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.errors import RunError


class Averages(Stored):
    """The moving averages of a network's values."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    values: dict[str, torch.Tensor]
    steps: int = Field(ge=0)


class State(Stored):
    """All that a training needs to go on exactly where it was.

    Attributes:
        step: of the optimiser, counted from 0.
        kept: by path of a `units` decision, the units that are still there.
        network, optimiser: values by name; the optimiser's by name of the parameter.
        rows: of the history.
        beside: what has learnt beside the network (`Trainer.beside`).
        time: of writing, in seconds since 1970.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step: int = Field(ge=0)
    kept: dict[str, list[int]]
    network: dict[str, torch.Tensor]
    optimiser: dict[str, dict[str, torch.Tensor | int | float | None]]
    average: Averages | None
    rows: list[dict[str, Any]]
    beside: dict[str, Any] = Field(default_factory=dict)
    time: float


def _numbers(text: Any) -> Any:
    """`0.5,0.25` as numbers."""
    return tuple(float(part) for part in text.split(",")) if isinstance(text, str) else text


Numbers = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], BeforeValidator(_numbers)]


class InputSize(Stored):
    """What a network reads: channels, height and width."""

    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)


class AboutWeights(Stored):
    """What a file of weights says of itself, all of it text; metrics and costs beside it.

    Attributes:
        nasdsl: the version that wrote it.
        text: of the network, as a `.space` file has it; needs no other file.
        values: of the space's decisions by path, units as `0..11, 14`.
        input: of the network.
        pixels: what images are, in words.
        space, digest: of the space that the weights were trained in.
        architecture, body, units: what computes with them, as `Structure` has it.
        layers: keys of their layers, in its order.
        task: that they were trained for.
        mean, std: that images are normalised by, one number a channel.
        normalised: `elsewhere` where images had been normalised before the network saw them, nobody said how.
        outputs: how many the task wants: classes, joints.
        classes: their names, in order of label; for keypoints, of the instances.
        features: names of the columns of a table, in order of channel.
        category_ids: what the annotation file of a detector's data calls its classes, in order of label.
        joints: of instances, for keypoints.
    """

    model_config = ConfigDict(extra="ignore")

    nasdsl: str | None = None
    text: str | None = None
    values: Json[dict[str, Any]] | None = None
    input: Json[InputSize] | None = None
    pixels: str | None = None
    space: str | None = None
    digest: str | None = None
    architecture: str | None = None
    body: str | None = None
    units: str | None = None
    layers: Json[tuple[str, ...]] | None = None
    task: str | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    normalised: str | None = None
    outputs: Json[int] | None = None
    classes: Json[tuple[str, ...]] | None = None
    features: Json[tuple[str, ...]] | None = None
    category_ids: Json[tuple[Any, ...]] | None = None
    joints: Json[KeypointLayout] | None = None

    @field_validator("joints")
    @classmethod
    def _indices(cls, joints: KeypointLayout | None) -> KeypointLayout | None:
        if joints is not None:
            count = len(joints.names)
            links = [end for link in joints.skeleton for end in link]
            if (
                len(joints.flip) != count
                or len(joints.sigmas) != count
                or not {*joints.flip, *links} <= {*range(count)}
            ):
                raise ValueError("speaks of joints that have no name")
        return joints


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Tensors, numbers, strings and containers of these.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        write_whole(path, lambda file: torch.save(dict(state), file))
    except RuntimeError as problem:  # torch's own, at the end of a file of which something could not be written
        if isinstance(problem.__context__, OSError):
            raise problem.__context__ from None
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote. Nothing in the file is run: `weights_only` reads tensors and plain values.

    Raises:
        RunError: it holds something else, or is damaged; the message goes on after the file's name.
    """
    try:
        with ZipFile(path) as archive:  # torch does not compare the checksums of what it reads
            damaged = archive.testzip()
        if damaged is not None:
            raise RunError(f"is damaged: {damaged} is not what was written")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except RunError:
        raise
    except (UnpicklingError, BadZipFile):
        raise RunError("cannot be read: it is no checkpoint, or holds more than tensors and plain values") from None
    except Exception as problem:  # torch raises nearly anything on damaged bytes
        raise RunError(f"cannot be read: {cause(problem)}") from None
    if not isinstance(found, dict):
        raise RunError(f"cannot be read: it is no checkpoint, but a {type(found).__name__}")
    return found


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file."""
    data = weights_data(tensors, metadata)
    write_whole(path, lambda file: file.write(data))


def weights_data(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, the same for the same tensors and metadata."""
    from safetensors.torch import save

    data = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, dict(metadata))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = {CHECKSUM: _checksum({**header, "__metadata__": dict(metadata)}, data[start:]), **metadata}
    text = _header(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


CHECKSUM = "checksum"
"""The entry of the metadata that tells damage of all else, which the format itself does not see."""
CHANGED = f"where it was changed on purpose, leave `{CHECKSUM}` out of its metadata"


def _header(header: Mapping[str, Any]) -> bytes:
    """The first part of a safetensors file. The library writes metadata in a random order."""
    told = {**header, "__metadata__": dict(sorted(header["__metadata__"].items()))}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _checksum(header: Mapping[str, Any], data: bytes | memoryview) -> str:
    return f"{zlib.crc32(data, zlib.crc32(_header(header))):08x}"


def _is_whole(path: Path) -> bool:
    """Whether a file of weights is as it was written, as far as it says."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        wanted = header.get("__metadata__", {}).pop(CHECKSUM, None)
        if wanted is None:
            return True
        with memoryview(content) as whole, whole[start:] as data:
            return bool(wanted == _checksum(header, data))


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        CompileError: it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
        whole = _is_whole(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as problem:
        raise error("bad-weights", f"{path} is no file of weights: {cause(problem)}", None) from None
    if not whole:
        raise error("bad-weights", f"{path} is damaged: it is not what was written", None, help=CHANGED)
    metadata.pop(CHECKSUM, None)
    return tensors, metadata
