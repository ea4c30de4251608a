"""The part of a page that shows what the network of a run finds in images, beside what is true."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.parse import read
from nasdsl.compiler.space import Space
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.provenance import ORIGIN, Origin, read_result, space_of
from nasdsl.runtime.runs import ABOUT, About
from nasdsl.runtime.stored import read_stored

if TYPE_CHECKING:
    from PIL.Image import Image

    from nasdsl.api.given import DataLike, SpaceLike, WeightsLike
    from nasdsl.runtime.data import DataSplits
    from nasdsl.runtime.examples import Example, Examples
    from nasdsl.runtime.found import Names

MOST_SHOWN = 6
MOST_BYTES = 36_000
"""Of the file of an image: all of them, as a page has them, are at most 300 kB."""
LONGEST_SIDE = 960
HOW = "`nasdsl report RUN --network FILE --data PATH` shows what a network finds, whose weights lie beside FILE"


@dataclass(frozen=True)
class Asked:
    """What the user says of the network and of the images; what is None is what the run says.

    Attributes:
        network: an architecture, its weights by default beside its file; or what a search or a training gave.
        weights: a file, or a network that has them.
        data: as `nasdsl.train` takes it, `reader`: of its layout, and `links`: whether those that lead out of it are
            followed.
        score: what is less sure is not shown (detection, keypoints).
    """

    network: SpaceLike | None
    weights: WeightsLike
    data: DataLike
    reader: str | None
    links: bool
    device: str
    score: float


def examples_of(run: Path | None, asked: Asked) -> Examples:
    """What the network of a run finds in images of its data.

    Args:
        run: its folder; None where it was not kept.

    Raises:
        NasdslError: why there is nothing to be shown, and what to do about it.
    """
    from nasdsl.compiler.pipeline import elaborate

    written = read_result(run) if run is not None and run.is_dir() else None
    network, weights = asked.network, asked.weights
    if network is None:
        if run is None or (written is None and weights is None):
            raise RunError("the run names no trained network", HOW)
        if written is not None and written.file is not None:
            network, weights = elaborate(read(Path(written.file))), weights or Path(written.weights)
        else:  # of the training of an architecture
            origin = read_stored(Origin, run / ORIGIN, "what says which architecture a run trains")
            if origin.file is None and origin.text is None:
                raise RunError(f"the architecture of {run} was in no file", "name a file that has it with `--network`")
            network = space_of(origin)
            weights = weights or (None if written is None else Path(written.weights))
    data, reader, links = asked.data, asked.reader, asked.links
    if data is None and written is None:
        raise RunError("the run does not say what its network learnt from", "name the data with `--data`")
    if data is None and written is not None:
        if written.given:
            raise RunError("the run learnt from data that was handed over in Python", "name the data with `--data`")
        data, reader, links = written.data, reader or written.reader, links or written.links
        if data is not None and not Path(data).exists():
            raise RunError(f"the data {data} is missing", "say with `--data` where it is now")

    from dataclasses import replace

    from nasdsl.api.given import options_of, space_like
    from nasdsl.api.trained import trained_like
    from nasdsl.runtime.device import device_named
    from nasdsl.runtime.examples import examples
    from nasdsl.runtime.fit import same_order
    from nasdsl.runtime.memory import lack_of_memory
    from nasdsl.runtime.predict import predictor_for
    from nasdsl.runtime.search import fit_to_data

    device = device_named(asked.device)
    space, splits, _ = fit_to_data(space_like(network), options_of(data, {}, reader=reader, links=links))
    if asked.data is None and run is not None:
        _check_data(run, None if data is None else str(data), splits)
    own = weights is None and not isinstance(network, Space | str | PathLike)
    _, trained, about = trained_like(network if own else space, weights)
    same_order(about.classes or (), splits.classes)
    predictor = replace(predictor_for(space, about), score=asked.score)
    try:
        return examples(space, trained, predictor, splits, MOST_SHOWN, device)
    except Exception as problem:  # torch tells a lack of memory by errors of several kinds
        if not lack_of_memory(problem):
            raise
        raise RunError("the network and an image do not fit in memory", "try `--device cpu`") from None


def _check_data(run: Path, data: str | None, splits: DataSplits) -> None:
    """A run's folder that somebody else has made could name whatever folder it likes; what is in it, it cannot know.

    Raises:
        RunError: the data is not what the run learnt from.
    """
    from nasdsl.runtime.search import data_identity

    about = read_stored(About, run / ABOUT, "what a run was started with")
    if about.data != data_identity(data, splits.description):
        where = "what ships with nasdsl" if data is None else data
        raise RunError(f"the run did not learn from {where}, as it is now", "say with `--data` what to take")


def why_none(problem: NasdslError) -> str:
    """Why there are no images, and what to do about it, in a line."""
    first = problem.diagnostics[0]
    text = f"There are no images with what a network finds: {first.message}"
    return f"{text} ({first.help})" if first.help else text


def examples_section(found: Examples | NasdslError, score: float) -> str:
    """The part as HTML: a few images, right ones and wrong ones, or the line that says why there are none."""
    if isinstance(found, NasdslError):
        return f'<p class="note">{html.escape(why_none(found))}</p>'
    of = f"Of {found.seen:,} images, taken evenly from the validation split, {found.right:,} are right: {found.rule}."
    text = f"{of} The data: {found.data}."
    pictures = [drawn(one, found.names, score) for one in found.shown]
    figures = "".join(_figure(one, picture, found.measure) for one, picture in zip(found.shown, pictures, strict=True))
    wide = any(one.width > 1.5 * one.height for one in pictures)  # such as masks beside what is true
    return (
        f'<h2>What the network finds</h2><p class="soft">{html.escape(text)}</p>'
        f'<div class="examples{" broad" if wide else ""}">{figures}</div>'
    )


def _figure(example: Example, picture: Image, measure: str) -> str:
    word = "right" if example.right else "wrong"
    caption = html.escape(f"image {example.index}: {measure} {example.value:.2f}")
    told = f'<figcaption><b class="{word}">{word}</b> {caption}</figcaption>'
    return f'<figure><img src="{data_uri(picture)}" alt="{caption}">{told}</figure>'


def drawn(example: Example, names: Names, score: float) -> Image:
    """The image with what is found and what is true."""
    from nasdsl.drawing.predictions import draw

    return draw(example.image, example.found, example.truth, names=names, score=score)


def data_uri(picture: Image, most: int = MOST_BYTES) -> str:
    """A picture as a part of a page, in at most so many bytes of a file: without loss where that is few enough, else
    as JPEG, and smaller where need be."""
    from PIL.Image import Resampling

    factor = min(1.0, LONGEST_SIDE / max(picture.size))
    while True:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        small = picture if size == picture.size else picture.resize(size, Resampling.LANCZOS)
        for kind, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 88}), ("JPEG", {"quality": 70})):
            file = io.BytesIO()
            small.save(file, kind, **options)
            if len(file.getvalue()) <= most or size == (1, 1):
                text = base64.b64encode(file.getvalue()).decode("ascii")
                return f"data:image/{kind.lower()};base64,{text}"
        factor *= 0.8
