"""Writes the module and its weights, both or neither."""

from __future__ import annotations

import keyword
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.module import DTYPES, Writer
from nasdsl.runtime.export.network import Network


def export_python(
    network: Supernet, path: Path, *, task: Mapping[str, Any] | None = None, space: Space | None = None
) -> list[Path]:
    """Writes a network as a Python file and, beside it, its weights: both, or neither.

    Args:
        network: of one architecture, as `extract` gives it.
        path: the `.py` file; in a folder it is named `found.py`.
        task: constants of the task for the user of the file: name, mean, std, classes, joints.
        space: the file's head names it.

    Raises:
        ExportError: the network has decisions left, or cannot be written in torch alone.
    """
    path = Path(path)
    if path.suffix != ".py":
        path = path / "found.py"
    open_decisions = list(network.graph.decisions)
    if open_decisions:
        number = f"{len(open_decisions)} decisions" if len(open_decisions) > 1 else "1 decision"
        raise ExportError(
            f"this is still a space: {number} open, such as `{open_decisions[0]}`",
            "export needs one architecture: search or pin the space first, or take one out with `extract`",
        )
    if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise ExportError(f"`{path.name}` cannot be imported under that name", "use letters, digits and underscores")
    written = Network(network)
    text = Writer(written, path.stem, task or {}, space).text()
    files = [path, path.with_suffix(".py.safetensors")]  # `found.safetensors` may be the search's own
    write_together({files[1]: weights_bytes(written.weights), files[0]: text.encode()})
    return files


def weights_bytes(weights: Mapping[str, torch.Tensor]) -> bytes:
    """The content of a safetensors file."""
    from safetensors.torch import save

    known = {getattr(torch, name) for name in DTYPES.values()}
    for name, tensor in weights.items():
        if tensor.dtype not in known:
            raise ExportError(
                f"`{name}` holds {tensor.dtype}, which an exported file cannot", "convert the network first"
            )
    return save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, {"format": "pt"}
    )


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes all files or none: new ones are complete before the first old one goes, else these come back."""
    kept: dict[Path, Path] = {}
    new: dict[Path, Path] = {}
    moved: list[Path] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            new[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            new[path].chmod(0o666 & ~umask)  # temporary files are private; these are not
        try:
            for path in contents:
                if path.exists():
                    kept[path] = path.with_name(f"{new[path].name}.old")
                    path.replace(kept[path])
                new[path].replace(path)
                moved.append(path)
        except BaseException:  # an interrupt too: all files are new, or all are as they were
            for path in moved:
                path.unlink()
            for path, old in kept.items():
                if old.exists():
                    old.replace(path)
            raise
    finally:
        for leftover in (*new.values(), *kept.values()):
            leftover.unlink(missing_ok=True)
