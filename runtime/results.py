"""What a search has found, as files: the result, its weights beside it, and those of a front."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.files import write_text, write_whole
from nasdsl.compiler.space import Space
from nasdsl.compiler.structure import structure
from nasdsl.compiler.tokens import is_name
from nasdsl.compiler.write import pinned_text
from nasdsl.runtime.checkpoint import AboutWeights, weights_data
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.errors import Diverged
from nasdsl.runtime.evolution.trial import Trial
from nasdsl.runtime.front import Front
from nasdsl.runtime.problem import Exploration, Learning, Narrowing, Result, Watch
from nasdsl.runtime.self_told import told_of_network
from nasdsl.runtime.tasks import Task

PIXELS = {1: "grey, from 0 to 1 before `mean` and `std`", 3: "RGB, from 0 to 1 before `mean` and `std`"}
"""By channels, what images are as the network sees them."""


def weights_path(path: Path) -> Path:
    """Where the weights of a result file stand."""
    return path.with_suffix(".safetensors")


def write_found(
    out: Path, space: Space, found: Result | Exploration | Narrowing, learning: Learning | None, watch: Watch
) -> tuple[list[Path], bool]:
    """The result file and, of a front, a file for each architecture of it, in order; and whether the result file has
    weights.

    Args:
        learning: what the networks were trained with, if they were.
        watch: is told where weights of an earlier result are, if they lay where those of this one would.

    Raises:
        RunError: a file that no search has written has the name of one of the front.
    """
    name = name_of(out)
    if isinstance(found, Narrowing):
        _write(out, pinned_text(out, space, None, name, found.note, found.narrowed), None, watch)
        return [out], False
    if isinstance(found, Result):
        assert learning is not None
        files = _front_files(out, len(found.front))
        texts = [
            _of_result(file, space, one, f"{name}_{file.stem}", learning)
            for file, one in zip(files, found.front, strict=True)
        ]
        _write_front(out, files, texts)
        _write(out, *_of_result(out, space, found, name, learning), watch)
        return [out, *files], True
    files = _front_files(out, len(found.front) if len(found.objectives.names) > 1 else 0)
    trials = [
        _of_trial(file, space, found, trial, f"{name}_{file.stem}", learning)
        for file, trial in zip(files, found.front, strict=False)
    ]
    _write_front(out, files, trials)
    text, weights = _of_trial(out, space, found, found.front[0], name, learning)
    _write(out, text, weights, watch)
    return [out, *files], weights is not None


def front_folder(out: Path) -> Path:
    """Where the files of a front lie."""
    return out.with_name(f"{out.stem}_front")


def _front_files(out: Path, n: int) -> list[Path]:
    """The files of a front beside a result file."""
    width = max(2, len(str(n)))
    return [front_folder(out) / f"{number:0{width}}.space" for number in range(1, n + 1)]


def _write_front(out: Path, files: list[Path], contents: Sequence[tuple[str, bytes | None]]) -> None:
    """The files of a front, each after its weights; what is left of a longer one that was there before goes."""
    if not files:
        return
    front, names = Front(front_folder(out)), list[str]()
    for file, (text, weights) in zip(files, contents, strict=True):
        if weights is not None:
            names.append(weights_path(file).name)
            front.write(names[-1], weights)
        names.append(file.name)
        front.write(file.name, text.encode())
    front.end(names)


def _write(out: Path, text: str, weights: bytes | None, watch: Watch) -> None:
    """A result file and its weights: these first, so that a result file always has them, and has no others."""
    if weights is not None:
        write_whole(weights_path(out), lambda file: file.write(weights))
    elif not out.exists() or out.read_bytes() != text.encode():
        _set_aside(weights_path(out), watch)
    write_text(out, text)


def _set_aside(weights: Path, watch: Watch) -> None:
    """Gives weights of an earlier result another name: what lies beside a result file is taken for its weights."""
    if weights.exists():
        away = next(file for n in count(1) if not (file := weights.with_suffix(f".{n}.safetensors")).exists())
        weights.rename(away)
        watch.note(f"{weights} held the weights of an earlier result, and is {away} now")


def _of_result(file: Path, space: Space, result: Result, name: str, learning: Learning) -> tuple[str, bytes]:
    """The text and the weights of a result."""
    headline = learning.task.headline
    note = f"{costs_of(result.costs)}, {headline} {result.metrics[headline]:.4f}"
    weights = result_data(space, result, learning.task, learning.data)
    return pinned_text(file, space, result.architecture, name, note), weights


def _of_trial(
    file: Path, space: Space, found: Exploration, trial: Trial, name: str, learning: Learning | None
) -> tuple[str, bytes | None]:
    """The text of a trial's file and its weights, if there are any."""
    result = found.result_of(trial)
    weights = None
    if result is not None and learning is not None:
        weights = result_data(space, result, learning.task, learning.data)
    values = dict(zip(found.objectives.names, trial.objectives, strict=True))
    facts = [costs_of(trial.proposal.costs)]
    known = {*trial.proposal.costs, *(one.name for one in measures.BUILT_IN.values() if one.of is not None)}
    facts += [f"{key} {value:.6g}" for key, value in values.items() if key not in known]
    architecture = Architecture.of(space.graph, trial.proposal.architecture)
    return pinned_text(file, space, architecture, name, f"{', '.join(facts)} (trial {trial.index})"), weights


def name_of(out: Path) -> str:
    """What the space of a result file is called: as the file is, if that is a word."""
    return out.stem if is_name(out.stem) else "found"


def costs_of(costs: Mapping[str, float]) -> str:
    """The costs of an architecture, in words; what is a multiple of another is left out."""
    told = []
    for name, cost in costs.items():
        measure = measures.lookup(name)
        if measure is not None and measure.of is None:
            amount = f"{cost / 1e6:,.3f}M" if measure.scale == 1 else f"{cost:,.4g}"
            told.append(f"{amount} {measure.label}")
    return ", ".join(told)


def result_data(space: Space, result: Result, task: Task, data: DataSplits) -> bytes:
    """The weights of a result, with what is needed to use them: the network in full (`told_of_network`), task,
    normalisation, names, costs, metrics.

    Raises:
        Diverged: a weight or a statistic is no finite number.
    """
    for key, tensor in result.network.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise Diverged(f"`{key}` of its network holds what is no finite number, and no weights are written")
    form = structure(result.network.graph)
    metadata = {
        **told_of_network(space, result.network.graph, result.architecture),
        "space": space.name,
        "digest": space.digest(),
        "architecture": form.whole,
        "body": form.body,
        "units": form.units,
        "layers": json.dumps(form.layers),
        **_learnt(task, data),
        **_pixels(result, data),
        **{key: f"{value}" for key, value in {**result.metrics, **result.costs}.items()},
    }
    return weights_data(result.network.state_dict(), metadata)


def _pixels(result: Result, data: DataSplits) -> dict[str, str]:
    channels = result.network.graph.input.shape.channels
    return {"pixels": PIXELS[channels]} if "features" not in data.details and channels in PIXELS else {}


def about_result(task: Task, data: DataSplits) -> AboutWeights:
    """What weights say of themselves, where they were not written."""
    return AboutWeights.model_validate(_learnt(task, data))


def _learnt(task: Task, data: DataSplits) -> dict[str, str]:
    """What was learnt, and from what."""
    categories, features = data.details.get("category_ids"), data.details.get("features")
    return {
        "task": task.name,
        **_normalisation(task, data),
        "outputs": f"{task.outputs}",
        "classes": json.dumps(data.classes),
        **({"features": json.dumps(features)} if features is not None else {}),
        **({"category_ids": json.dumps(categories, default=str)} if categories is not None else {}),
        **({"joints": json.dumps(dataclasses.asdict(data.layout))} if data.layout is not None else {}),
    }


def _normalisation(task: Task, data: DataSplits) -> dict[str, str]:
    """By what images are to be normalised; where they were before the network saw them, and nobody said how, that."""
    mean, std = task.normalise.mean, task.normalise.std
    if data.normalised is not None:
        if data.normalised.mean is None or data.normalised.std is None:
            return {"normalised": "elsewhere"}
        mean, std = data.normalised.mean, data.normalised.std
    return {"mean": ",".join(map(str, mean)), "std": ",".join(map(str, std))}


def save_result(file: Path, space: Space, result: Result, task: Task, data: DataSplits) -> None:
    """Writes the weights of a result (`result_data`)."""
    found = result_data(space, result, task, data)
    write_whole(file, lambda stream: stream.write(found))
