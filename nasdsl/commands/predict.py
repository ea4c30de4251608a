"""The command that applies a trained network to images, or to rows of tables: predict."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.files import source_of
from nasdsl.options import UsageError, add_format, add_space, defines, describe, whole_number
from nasdsl.streams import as_json

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space
    from nasdsl.compiler.supernet import Supernet
    from nasdsl.runtime.checkpoint import AboutWeights
    from nasdsl.runtime.predict import Photo, Predictor

SCORE = 0.3
MOST_CLASSES = 5

DESCRIPTION = """\
Applies an architecture with its weights to images, whatever its task. OUT gets `images/` with what was found drawn on
them, and

  detection       predictions.json, a COCO file: boxes with class and score, in pixels of the images
  keypoints       predictions.json, a COCO file; each image is taken as one instance, which fills it
  segmentation    masks/, a PNG for each image whose values are classes, and classes.txt with their names
  classification  predictions.csv, a row for each image

A network for regression takes tables, CSV files with the features that it learnt from among their columns, and OUT gets
predictions.csv with the targets of each row.

Images are prepared as for `nasdsl eval`, and turned upright where a camera has noted how they lie.
"""


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"a number from 0 to 1 is needed here, and this is `{text}`")
    return value


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        DESCRIPTION,
        "predict found.space photos/ -o out",
        "predict found.space one.jpg two.jpg photos.zip -o out --overwrite",
        "predict found.space photos/ -o out --score 0.5 --device cuda",
        "predict found.space photos/ -o out --weights trained.safetensors",
    )
    add_space(parser)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="an image, or a folder or zip with images anywhere below it; for regression, tables",
    )
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="the folder for what is found")
    parser.add_argument("--overwrite", action="store_true", help="write into OUT though it is not empty")
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    parser.add_argument(
        "--score",
        type=_fraction,
        metavar="N",
        help=f"detection: leave out what is less sure; keypoints: mark it as hidden (default {SCORE})",
    )
    parser.add_argument(
        "--most",
        type=whole_number,
        metavar="N",
        help=f"detections of an image (default: all), or classes that are listed (default {MOST_CLASSES})",
    )
    parser.add_argument("--links", action="store_true", help="follow links that lead out of folders of images")
    parser.add_argument("--device", metavar="NAME", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--batch", type=whole_number, default=8, metavar="N", help="images at a time (default 8)")
    parser.add_argument("--threads", type=whole_number, metavar="N", help="CPU threads for torch")
    add_format(parser)


def run(args: Namespace) -> int:
    import torch

    from nasdsl.predictions import Results
    from nasdsl.progress import Bars
    from nasdsl.runtime.device import device_named
    from nasdsl.runtime.predict import photos_in, predict, predictor_for
    from nasdsl.runtime.predict_rows import is_for_tables
    from nasdsl.runtime.trained import load_trained

    out, paths = Path(args.out), [Path(path) for path in args.images]
    _check_out(out, paths, args.overwrite)
    device = device_named(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    weights = Path(args.weights) if args.weights is not None else None
    space, network, about = load_trained(source_of(args.file), args.space, defines(args.defines), weights)
    if is_for_tables(space):
        return _rows(space, network, about, args)
    predictor = _limited(predictor_for(space, about), args)
    left_out: list[str] = []
    photos = photos_in(paths, out, args.links, left_out)
    results = Results(out, photos, predictor.names, about.category_ids, SCORE if args.score is None else args.score)
    bars, unreadable, done = Bars(), list[str](), 0
    for line in left_out:
        bars.note(f"left out: {line}")
    bars.start("predict", len(photos), 0)

    def skip(photo: Photo, problem: NasdslError) -> None:
        unreadable.append(photo.where)
        bars.note(f"left out: {problem.diagnostics[0].message}")

    try:
        for photo, image, found in predict(network, predictor, photos, args.batch, skip, device):
            results.add(photo, image, found)
            done += 1
            bars.step(done + len(unreadable), {})
    finally:
        bars.stop()
    if not done:
        what = f"none of the {len(photos)} images can be read" if len(photos) > 1 else "the image cannot be read"
        raise error("no-images", what, None, help="nothing was written")
    files = results.finish(predictor.task, f"found by {space.name} ({space.digest()})")
    facts: dict[str, Any] = {"images": done, "out": [str(file) for file in files]}
    if left_out:
        facts["left_out"] = left_out
    if unreadable:
        facts["unreadable"] = unreadable
    if predictor.task == "detection":
        facts["detections"] = len(results.annotations)
    _tell(facts, args.format)
    return 0


def _rows(space: Space, network: Supernet, about: AboutWeights, args: Namespace) -> int:
    """Predicts from tables, and writes what is found in one."""
    import csv
    import io

    from nasdsl.compiler.files import write_text
    from nasdsl.runtime.device import device_named
    from nasdsl.runtime.predict_rows import names_of, predict_rows, tables_at

    _no_limits("regression", args)
    features, targets = names_of(space, about)
    tables = tables_at([Path(path) for path in args.images], features, args.links)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "line", *targets])
    for table in tables:
        lines = iter(table.lines)
        for found in predict_rows(network, about, table, max(args.batch, 256), device_named(args.device)):
            writer.writerows([table.name, next(lines), *(f"{value:.7g}" for value in row)] for row in found)
    out = Path(args.out) / "predictions.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text.getvalue())
    _tell({"rows": sum(len(table.lines) for table in tables), "out": [str(out)]}, args.format)
    return 0


def _check_out(out: Path, images: list[Path], overwrite: bool) -> None:
    """
    Raises:
        UsageError: it cannot, or by mistake might, be written into.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o names a folder, and {out} is a file")
    if any(path.is_dir() and path.resolve() == out.resolve() for path in images):
        raise UsageError(f"{out} is the folder of the images", help="name another one with -o")
    if out.is_dir() and not overwrite and any(out.iterdir()):
        raise UsageError(f"the folder {out} is not empty", help="--overwrite writes into it all the same")


def _limited(predictor: Predictor, args: Namespace) -> Predictor:
    """
    Raises:
        UsageError: a limit that says nothing for the task.
    """
    import dataclasses

    task = predictor.task
    _no_limits(task, args)
    most = args.most if task == "detection" else args.most or MOST_CLASSES
    return dataclasses.replace(predictor, score=SCORE if args.score is None else args.score, most=most)


def _no_limits(task: str, args: Namespace) -> None:
    """
    Raises:
        UsageError: a limit that says nothing for the task.
    """
    if args.score is not None and task not in ("detection", "keypoints"):
        raise UsageError(f"--score is for detection and keypoints, and this network is for {task}")
    if args.most is not None and task not in ("detection", "classification"):
        raise UsageError(f"--most is for detection and classification, and this network is for {task}")


def _tell(facts: dict[str, Any], form: str) -> None:
    if form == "json":
        as_json(facts)
        return
    for name, value in facts.items():
        shown = len(value) if name == "unreadable" else ", ".join(value) if isinstance(value, list) else value
        print(f"{name:>10}  {shown}")
