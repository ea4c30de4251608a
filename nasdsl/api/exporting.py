"""`nasdsl.export`: an architecture with its weights as something that does not need nasdsl."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nasdsl.api.given import CallError, SpaceLike, WeightsLike, space_like
from nasdsl.api.predicting import trained_like
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.export import batch_to_compare, check_export, export_python, verify_python
from nasdsl.runtime.outputs import inputs_of
from nasdsl.runtime.results import weights_path

FORMS = ("python",)
"""What `to` may be."""
MOST_APART = 1e-5
"""So far the numbers of what was written may be from those of the network."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its numbers are from those of the network at most."""

    files: tuple[Path, ...]
    difference: float

    def facts(self) -> dict[str, Any]:
        """What `nasdsl export` tells of it, by name."""
        module, weights = self.files
        return {"module": str(module), "weights": str(weights), "largest difference": self.difference}


def export(
    space: SpaceLike | Supernet,
    out: str | PathLike[str] | None = None,
    *,
    to: str = "python",
    weights: WeightsLike = None,
) -> Exported:
    """Writes an architecture with its weights so that nasdsl is not needed, as `nasdsl export` does, and proves that it
    gives the same numbers.

        nasdsl.export("found.space")
        nasdsl.export(found, "found.py")
        nasdsl.export(supernet.extract(architecture), "found.py")

    Args:
        space: what a search or a training gave, with its weights; an architecture; or a network of one, as
            `Supernet.extract` gives it, whatever trained it.
        out: the module file; by default `NAME.py` beside the space's.
        to: `python`, a readable module that imports torch alone, with its weights in safetensors.
        weights: a file, or a network; by default the file beside the space's.

    Raises:
        CompileError: a mistake in the file, the space has decisions, or its weights are missing or of another network.
        OutputError: the file cannot be written, or something else is there.
        ExportError: the network cannot be written, or gives other numbers.
    """
    if to not in FORMS:
        raise CallError(f"`to` is {' or '.join(FORMS)}, and not {to}")
    made, network, about, inputs = _given(space, weights)
    if out is None:
        if made is None or made.source.path is None:
            raise CallError("export reads a file, and not standard input" if made else "`out` names the file")
        out = made.source.path.with_suffix(".py")
    check_export(Path(out), inputs)
    files = export_python(network, Path(out), task=task_facts(about), space=made)
    difference = verify_python(files[0], network, batch_to_compare(network))
    if not difference < MOST_APART:
        message = f"the exported module differs from the network by {difference:.2g}"
        raise error("export-differs", message, None, help="please report this")
    return Exported(tuple(files), difference)


def _given(
    space: SpaceLike | Supernet, weights: WeightsLike
) -> tuple[Space | None, Supernet, AboutWeights, list[Path]]:
    if isinstance(space, Supernet):
        if weights is not None:
            raise CallError("a network has its own `weights`")
        return None, space, AboutWeights(), []
    own = space_like(space)
    made, network, about = trained_like(space, weights)
    files = inputs_of(made)
    if not isinstance(weights, Supernet):
        beside = None if own.source.path is None else weights_path(own.source.path)
        files += [Path(one) for one in (weights or beside,) if one is not None]
    return made, network, about, files


def task_facts(about: AboutWeights) -> dict[str, Any]:
    """What the user of an exported network has to know of its task."""
    task: dict[str, Any] = {"name": about.task} if about.task is not None else {}
    if about.mean is not None and about.std is not None:
        task |= {"mean": about.mean, "std": about.std}
    if about.joints is not None:
        task["joints"] = about.joints.names
    elif about.task == "regression":
        task |= {"targets": about.classes or (), "features": about.features or ()}
    elif about.classes is not None:
        task["classes"] = about.classes
    return task
