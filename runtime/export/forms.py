"""Takes an architecture with its weights out: one function for all forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.extras import require
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.export.compare import Agreement
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.facts import facts_of
from nasdsl.runtime.export.onnx_file import OPSET, OPSETS, export_onnx
from nasdsl.runtime.export.record import Recording, record
from nasdsl.runtime.export.torch_file import ABOUT, export_torch
from nasdsl.runtime.export.verify import batch_to_compare, verify_python
from nasdsl.runtime.export.write import check_export, export_python
from nasdsl.runtime.outputs import OutputError, check_output, inputs_of
from nasdsl.runtime.results import weights_path

ENDINGS = {"python": ".py", "torch": ".pt2", "onnx": ".onnx"}
"""By form, how the names of its files end."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: the first of them is the network.
        difference: the largest from the network's numbers.
        told: what else there is to say, by name.
    """

    files: tuple[Path, ...]
    difference: float
    told: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """What `nasdsl export` tells of it, by name."""
        first, *more = self.files
        name = {".py": "module", ".pt2": "program"}.get(first.suffix, "model")
        weights = {"weights": str(more[0])} if more else {}
        return {name: str(first), **weights, **self.told, "largest difference": self.difference}


def export_network(
    space: Space | None,
    network: Supernet,
    about: AboutWeights,
    to: str = "python",
    out: Path | None = None,
    *,
    weights: Path | None = None,
    opset: int | None = None,
    fixed_size: bool = False,
    padded: bool = False,
) -> Exported:
    """Writes an architecture with its weights as a file that does without nasdsl, and proves that it gives the same
    numbers.

    Args:
        space: of the network; None where nobody knows it.
        to: `python`, a module that needs torch alone; `torch`, a program for `torch.export.load`; `onnx`.
        out: the file; by default beside the space's, with its name. For `python` a folder will do.
        weights: the file that they are from, which is not written to.
        opset: of ONNX, 18 to 23; 20 by default.
        fixed_size: whether height and width are those of the space's input alone. Otherwise they are left open where
            the network allows it. Not for `python`, where they always are.
        padded: whether a detector has a second input, `sizes` (B 2), with height and width of the images without their
            padding. Not for `python`, where it always has.

    Raises:
        ExportError: an option is not for that form, or the network has no such form, or another file is there.
        CompileError: what was written gives other numbers.
    """
    check_options(to, network, opset, fixed_size, padded)
    source = None if space is None else space.source.path
    if out is None:
        if source is None:
            raise ExportError("a space without a file has no name for what is written", "name a file")
        out = source.with_suffix(ENDINGS[to])
    beside = weights or (None if source is None else weights_path(source))
    read = ([] if space is None else inputs_of(space)) + ([] if beside is None else [Path(beside)])
    if to == "python":
        return as_python(space, network, about, out, read)
    if out.is_dir():
        out = out / f"found{ENDINGS[to]}"
    check_file(out, to, read)
    watched = to == "onnx" and network.reads_scene
    recording = record(network, padded=padded, open_sizes=not fixed_size, watched=watched)
    facts = facts_of(space, network, about, recording)
    told: dict[str, Any] = {}
    if to == "onnx":
        agreement = export_onnx(network, recording, out, opset=opset or OPSET, padded=padded, facts=facts)
        told["opset"] = opset or OPSET
    else:
        agreement = export_torch(network, recording, out, padded=padded, facts=facts)
    return Exported((out,), agreement.largest, {**told, **told_of(recording, agreement, network, to)})


def check_options(to: str, network: Supernet, opset: int | None, fixed_size: bool, padded: bool) -> None:
    """
    Raises:
        ExportError: there is no such form, or it has no such option.
        MissingPackage: the form needs a package that is not installed.
    """
    if to not in ENDINGS:
        raise ExportError(f"there is no form `{to}`", f"there are {', '.join(ENDINGS)}")
    if opset is not None and to != "onnx":
        raise ExportError(f"an opset is for ONNX, and not for {to}", "leave it out")
    if opset is not None and opset not in OPSETS:
        raise ExportError(f"opset {opset} cannot be written", f"there are {OPSETS.start} to {OPSETS.stop - 1}")
    if fixed_size and to == "python":
        raise ExportError("a module takes images of any size, so that its size cannot be fixed", "leave it out")
    if padded and to == "python":
        raise ExportError("a module takes sizes of padded images anyway", "leave it out")
    if padded and not network.reads_scene:
        raise ExportError("sizes of padded images are for detectors, and this network is none", "leave it out")
    if to == "onnx":
        require("onnx", "onnxscript", "onnxruntime", what="`--to onnx`")


def check_file(out: Path, to: str, read: Sequence[Path]) -> None:
    """That a file can be written, and takes the place of another export at most.

    Raises:
        OutputError: it cannot, or something else is there.
    """
    check_output(out, read)
    if out.exists() and not (is_onnx if to == "onnx" else is_program)(out):
        raise OutputError(f"{out} is there already, and is no export of nasdsl's", "name another file with `-o`")


def is_onnx(file: Path) -> bool:
    """Whether a file is an ONNX model of nasdsl's: the second field of the message says who made it."""
    with file.open("rb") as stream:
        return b"\x12\x06nasdsl" in stream.read(32)


def is_program(file: Path) -> bool:
    """Whether a file is a program of nasdsl's."""
    try:
        with ZipFile(file) as archive:
            return any(name.endswith(ABOUT) for name in archive.namelist())
    except (BadZipFile, OSError):
        return False


def told_of(recording: Recording, agreement: Agreement, network: Supernet, to: str) -> dict[str, Any]:
    """What there is to say of a recorded network."""
    told: dict[str, Any] = {"batch": "any", "sizes": recording.sizes}
    if recording.fixed:
        told["fixed as"] = recording.fixed
    told["compared"] = ", ".join(agreement.tried)
    if network.reads_scene:
        told["detections"] = f"{agreement.detections}, of which {agreement.lost} differ"
        if to == "torch":
            told["to load"] = "import nasdsl.compiler.layers.regions first: it has the operations of detectors"
    return told


def as_python(space: Space | None, network: Supernet, about: AboutWeights, out: Path, read: Sequence[Path]) -> Exported:
    """As a module.

    Raises:
        ExportError, CompileError: as `export_network`.
    """
    check_export(out, read)
    task: dict[str, Any] = {"name": about.task} if about.task is not None else {}
    if about.mean is not None and about.std is not None:
        task |= {"mean": about.mean, "std": about.std}
    if about.joints is not None:
        task["joints"] = about.joints.names
    elif about.task == "regression":
        task |= {"targets": about.classes or (), "features": about.features or ()}
    elif about.classes is not None:
        task["classes"] = about.classes
    files = export_python(network, out, task=task, space=space)
    difference = verify_python(files[0], network, batch_to_compare(network))
    if not difference < 1e-5:
        raise error(
            "export-differs",
            f"the exported module differs from the network by {difference:.2g}",
            None,
            help="please report this",
        )
    return Exported(tuple(files), difference, {})
