"""The command that applies a trained network to images, or to rows of tables: predict."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from nasdsl.options import add_format, add_space, describe, space_given, whole_number
from nasdsl.running import called
from nasdsl.runtime.usual import MOST_CLASSES, SCORE
from nasdsl.streams import as_json

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
    from nasdsl.api.predicting import predict
    from nasdsl.progress import Bars

    names = ("weights", "score", "most", "overwrite", "links", "batch", "device", "threads")
    given = {name: getattr(args, name) for name in names}
    with called(args, out="-o"):
        found = predict(space_given(args), args.images, args.out, on_progress=Bars(), **given)
    if args.format == "json":
        as_json(found.facts())
        return 0
    for name, value in found.facts().items():
        shown = len(value) if name == "unreadable" else ", ".join(value) if isinstance(value, list) else value
        print(f"{name:>10}  {shown}")
    return 0
