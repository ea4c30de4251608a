"""Writes the module and its weights, both or neither."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler.files import write_text, write_whole
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.module import DTYPES, Writer
from nasdsl.runtime.export.network import Network
from nasdsl.runtime.outputs import OutputError, check_output


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
    path = module_path(Path(path))
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
    write_together(path, text, files[1], weights_bytes(written.weights))
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


def write_together(module: Path, text: str, weights: Path, data: bytes) -> None:
    """Writes a module and its weights. Whenever a writer is killed, the module that is there has its own weights: the
    new one first names weights of its own, and those that are there only change when nothing reads them.
    """
    beside = weights.with_suffix(f".new{weights.suffix}")
    before = module.read_bytes() if module.exists() else None
    if before is None:
        write_whole(weights, lambda file: file.write(data))
        write_text(module, text)
        return
    name = f'"{weights.name}"'
    try:
        write_whole(beside, lambda file: file.write(data))
        write_text(module, text.replace(name, f'"{beside.name}"'))
        old = weights.read_bytes() if weights.exists() else None
        try:
            write_whole(weights, lambda file: file.write(data))
            write_text(module, text)
        except BaseException:  # an interrupt too: all is new, or all is as it was
            if old is not None:
                write_whole(weights, lambda file: file.write(old))
            raise
    except BaseException:  # so here: the module that was there reads the weights that were there
        write_whole(module, lambda file: file.write(before))
        raise
    finally:
        beside.unlink(missing_ok=True)


def module_path(path: Path) -> Path:
    """The module that an export to a path writes: the file, or `found.py` in the folder."""
    return path if path.suffix == ".py" else path / "found.py"


def check_export(path: Path, inputs: Sequence[Path] = ()) -> None:
    """That an export can be written to a path, and takes the place of another export at most.

    Raises:
        OutputError: it cannot, or something else is there.
    """
    module = module_path(path)
    for file in (module, module.with_suffix(".py.safetensors")):
        check_output(file, inputs)
    if module.exists() and not all(mark in module.read_bytes() for mark in MARKS):
        raise OutputError(f"{module} is there already, and is no export of nasdsl's", "name another file with `-o`")


MARKS = (b"\ndef read_weights(", b"\nWEIGHTS = Path(__file__)")
"""What every module has that was exported."""
