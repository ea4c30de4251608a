"""The command `export`: take an architecture out."""

from __future__ import annotations

import argparse

from nasdsl.options import add_format, add_space, describe, space_given
from nasdsl.running import called, report_facts

DESCRIPTION = """\
Writes an architecture with its weights as a file that does without nasdsl, and proves that it gives the same numbers.

  python  a readable module that imports torch alone, with its weights in safetensors beside it
  torch   a program for torch.export.load (.pt2)
  onnx    a model for onnxruntime and others (.onnx); detectors give boxes, scores and labels, after suppression

The last two take any number of images at once, and images of any size that is a multiple of the network's stride, where
the network allows it; what they take is printed. They say what they are: space, hash, task, classes, normalisation and
size of the input stand in `metadata_props` of the model, and in the extra file `nasdsl.json` of the program.
"""


def options(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        DESCRIPTION,
        "export found.space --to python -o found.py && python found.py",
        "export found.space --to onnx -o found.onnx",
        "export detector.space --to onnx --padded",
    )
    add_space(parser)
    parser.add_argument("--to", choices=("python", "torch", "onnx"), default="python", help="the form (default python)")
    parser.add_argument("-o", "--out", metavar="FILE", help="the file (default: NAME.py, .pt2 or .onnx beside FILE)")
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    parser.add_argument("--opset", type=int, metavar="N", help="onnx: version of its operators, 18 to 23 (default 20)")
    parser.add_argument(
        "--fixed-size", action="store_true", help="onnx, torch: images have the size of the space's input alone"
    )
    parser.add_argument(
        "--padded",
        action="store_true",
        help="onnx, torch: a detector reads a second input, sizes: height and width of each image without its padding",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.api.exporting import export

    with called(args, out="-o"):
        made = export(
            space_given(args),
            args.out,
            to=args.to,
            weights=args.weights,
            opset=args.opset,
            fixed_size=args.fixed_size,
            padded=args.padded,
        )
    report_facts(args, made.facts())
    return 0
