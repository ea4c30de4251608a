"""The command `export`: take an architecture out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nasdsl.compiler.diagnostics import error
from nasdsl.files import source_of
from nasdsl.options import UsageError, add_format, add_space, defines
from nasdsl.running import report_facts

EXPORT_DESCRIPTION = """\
Writes an architecture with its weights as a stand-alone artefact that does not need nasdsl, and proves that it gives
the same numbers. `--to python` makes a readable module that imports torch alone, with its weights in safetensors.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = EXPORT_DESCRIPTION
    parser.epilog = "example:\n  nasdsl export found.space --to python -o found.py && python found.py\n"
    add_space(parser)
    parser.add_argument("--to", choices=("python",), default="python", help="the form")
    parser.add_argument("-o", "--out", metavar="FILE", help="the module file (default: NAME.py beside FILE)")
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.runtime.export import batch_to_compare, check_export, export_python, verify_python
    from nasdsl.runtime.outputs import inputs_of
    from nasdsl.runtime.results import weights_path
    from nasdsl.runtime.trained import load_trained

    source = source_of(args.file)
    if source.path is None:
        raise UsageError("export reads a file, and not standard input")
    weights = Path(args.weights) if args.weights is not None else None
    space, network, about = load_trained(source, args.space, defines(args.defines), weights)
    out = Path(args.out) if args.out is not None else source.path.with_suffix(".py")
    check_export(out, inputs_of(space, weights or weights_path(source.path)))
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
    report_facts(args, {"module": str(files[0]), "weights": str(files[1]), "largest difference": difference})
    return 0
