"""The main job from start to finish, as a user would type it: every command is shown, then run."""

from __future__ import annotations

import argparse
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from nasdsl import spaces
from nasdsl.compiler.extras import ON_IMAGES, PACKAGES, require

DESCRIPTION = """\
Checks and compiles HR-NAS, shrinks its laptop-sized variant on scenes of handwritten digits, trains the same space
thinned evenly to the same MACs, draws and exports what was found, and compares the two. About eight minutes on two
cores.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument(
        "--out", metavar="FOLDER", default="runs/demo", help="where everything goes (default: runs/demo)"
    )
    parser.add_argument("--epochs", metavar="N", help="epochs of both trainings (default: those of the space)")
    parser.add_argument("--threads", metavar="N", help="CPU threads for torch")


def run(args: argparse.Namespace) -> int:
    wanted = ON_IMAGES["demo"]  # before the first minutes have gone by
    require(*[module for module, (extra, _) in PACKAGES.items() if extra in wanted], what="the demo", command="demo")
    folder = Path(args.out)
    whole, small = str(spaces.path("hrnas")), str(spaces.path("hrnas_small"))
    found, thinned = str(folder / "found.space"), str(folder / "thinned.space")
    more = ["--epochs", args.epochs] if args.epochs is not None else []
    more += ["--threads", args.threads] if args.threads is not None else []
    commands = [
        ["check", whole],
        ["compile", whole],
        ["search", small, "--out", found, "--run", str(folder / "shrink"), *more],
        ["search", small, "--runtime", "thin", "--out", thinned, "--run", str(folder / "thin"), *more],
        ["draw", found, "-o", str(folder / "found.svg")],
        ["export", found, "--to", "python", "-o", str(folder / "found.py")],
    ]
    for command in commands:
        code = _run(command)
        if code and command[0] != "draw":  # a missing `dot` costs a picture, not the run
            return code
    results = {name: _measured(path) for name, path in (("shrunk", found), ("thinned evenly", thinned))}
    print("\nThe same space at the same MACs, trained for the same number of steps:")
    for name, metrics in results.items():
        print(f"  {name:>14}  " + "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return 0


def _run(command: list[str]) -> int:
    from nasdsl.cli import main

    print("\n$ nasdsl " + " ".join(command), flush=True)
    return main(command)


def _measured(path: str) -> dict[str, float]:
    """The metrics of an architecture, through the command that a user would give.

    Raises:
        CompileError: it cannot be measured.
    """
    from nasdsl.cli import main
    from nasdsl.compiler.diagnostics import error

    text = StringIO()
    with redirect_stdout(text):
        code = main(["eval", path, "--format", "json"])
    if code:
        raise error("demo", f"`nasdsl eval {path}` failed", None, help="run it to see why")
    return json.loads(text.getvalue())
