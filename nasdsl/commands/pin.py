"""The command `pin`: a smaller space."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.commands.diff import named, there
from nasdsl.options import UsageError, add_space, describe, space_of
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.streams import write_program

if TYPE_CHECKING:
    from nasdsl.compiler.graph import Graph
    from nasdsl.compiler.space import Space


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Writes a smaller space: decisions get values, or fewer alternatives. A place is a decision's path, or a part\n"
        "that several have in common; `nasdsl compile` lists them. With --number, the architecture of that rank. With\n"
        "--from, what another architecture has decided: its input, its values for the parameters of FILE by their\n"
        "names, and those of decisions of the same path; so one search goes on where another one ended.",
        "pin spaces/tiny.space stage.depth=2 -o smaller.space",
        "pin spaces/trionet.space 'trio.op=oneof(conv, axial)' -o two.space",
        "pin tiny --number 100",
        "pin spaces/smnas_small.space --space smnas_small_modules --from structure_front/03.space -o modules.space",
    )
    add_space(parser)
    parser.add_argument("pins", metavar="PLACE=VALUE", nargs="*", help="what to set, in the words of the language")
    parser.add_argument("--number", metavar="N", help="the architecture with this number, from 0 to the size less 1")
    parser.add_argument(
        "--from", dest="other", metavar="FILE[:NAME]", help="an architecture whose values are taken over"
    )
    parser.add_argument("--name", default="pinned", help="name of the new space (default: pinned)")
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default standard output")


def run(args: Namespace) -> None:
    from nasdsl.compiler.tokens import is_name
    from nasdsl.compiler.write import path_from, pinned

    space = space_of(args)
    if args.out is not None:
        other = [] if args.other is None else inputs_of(named(args.other))
        check_output(Path(args.out), [*inputs_of(space), *other], streams=True)
    narrowed: dict[str, tuple[int, ...]] = {}
    if args.other is not None and args.number is not None:
        raise UsageError("--from and --number cannot both say which architecture it is")
    if args.other is None and (args.number is None) == (not args.pins):
        raise UsageError("pin takes either PLACE=VALUE, once or more, or --number N, or --from FILE")
    space, places = _with_parameters(space, dict(map(_split, args.pins)))
    if args.other is not None:
        values, note = {}, ""
    elif args.number is not None:
        values = _by_number(space, args.number)
        note = f"Architecture {args.number} of {space.name}."
    else:
        values, narrowed = _by_place(space, places)
        note = ""
    if not is_name(args.name):
        raise UsageError(f"a space's name is a word that the language does not use itself, and not `{args.name}`")
    if space.source.path is None:
        raise UsageError("a smaller space names the file that it comes from, and standard input has no name")
    beside = Path(args.out).resolve().parent if args.out else Path.cwd()
    if args.other is not None:
        text = _taken_over(space, args, places, beside)
    else:
        text = pinned(space, {**space.pins, **values}, args.name, path_from(beside, space), note, narrowed)
    if args.out is None:
        write_program(text)
    else:
        write_output(Path(args.out), text)
        print(args.out)


def _with_parameters(space: Space, given: dict[str, str]) -> tuple[Space, dict[str, str]]:
    """The space with those of the given values that are of parameters, and the others, which are of decisions."""
    from nasdsl.compiler.pipeline import elaborate

    parameters = {name: text for name, text in given.items() if name in space.params}
    if parameters:
        space = elaborate(space.source, space.name, {**space.overrides, **parameters})
    return space, {place: text for place, text in given.items() if place not in parameters}


def _by_number(space: Space, text: str) -> dict[str, Any]:
    from nasdsl.compiler.sample import Numbering

    try:
        number = int(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise UsageError(f"--number takes a whole number, and not `{text}`") from None
    try:
        return dict(Numbering(space.graph).unrank(number).indices)
    except IndexError as problem:
        raise UsageError(str(problem)) from None


def _by_place(space: Space, places: dict[str, str]) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The values and the narrowed choices that a space made in the language has."""
    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.compiler.source import Source
    from nasdsl.compiler.write import free_name, used

    lines = [f"  {place}: {value}\n" for place, value in places.items()]
    path = space.source.path
    if path is None:
        raise UsageError("standard input has no name that a smaller space could use")
    name = free_name(space, "pinned_here")
    text = f"{used(space, path.name)}space {name} = {space.name} with {{\n{''.join(lines)}}}\n"
    made = elaborate(Source(text, "<command line>", path.parent / "<command line>"), name, space.overrides)
    before = space.graph.decisions
    narrowed = {
        path: tuple(before[path].labels.index(label) for label in decision.labels)
        for path, decision in made.graph.decisions.items()
        if path in before and decision.kind == "choice" and len(decision.items) < len(before[path].items)
    }
    return {path: value for path, value in made.pins.items() if path in before}, narrowed


def _taken_over(space: Space, args: Namespace, places: dict[str, str], beside: Path) -> str:
    """The text of the space with what another architecture has decided, by name, and with the given pins. Parameters
    that are given stay as they are.

    Raises:
        UsageError: the other has nothing that the space has, or has a name twice.
        CompileError: a value is not one that the space can have.
    """
    from nasdsl.compiler.parse import parse
    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.compiler.source import Source
    from nasdsl.compiler.unparse import unparse
    from nasdsl.compiler.write import entries, free_name, last_step, path_from, used

    other = named(args.other)
    theirs = _decided(other)
    taken, left = [], [name for name in theirs if name not in space.params]
    for name in space.params:
        values = theirs.get(name, {})
        if name in space.overrides or not values:
            continue
        if len(values) > 1:
            several = ", ".join(f"`{path}` is {value}" for value, path in values.items())
            raise UsageError(f"{args.other} has several values for `{name}`: {several}; say {name}=VALUE")
        taken.append(f"{name}: {next(iter(values))}")
    shape, own = other.graph.input.shape, space.graph.input.shape
    sides = (shape.channels, shape.height, shape.width)
    if all(isinstance(side, int) for side in sides) and sides != (own.channels, own.height, own.width):
        taken.insert(0, f"input {' x '.join(map(str, sides))}")
    alike = _same_decisions(space, other, places)
    if not taken and not alike:
        raise UsageError(f"{args.other} decides nothing that is a parameter or a decision of `{space.name}`")
    lines = [*taken, *(f"{name}: {text}" for name, text in {**space.overrides, **places}.items())]
    name = free_name(space, args.name)
    body = "".join(f"  {line}\n" for line in lines) + "".join(f"{line}\n" for line in entries(alike))
    head = f"# {space.name}, with what {other.name} decides.\n{used(space, path_from(beside, space))}"
    text = f"{head}\nspace {name} = {space.name} with {{\n{body}}}\n"
    elaborate(Source(text, "<command line>", beside / "<command line>"), name)
    if alike:
        taken.append(f"{len(alike)} decisions of the same path")
        left = [name for name in left if name not in {last_step(path) for path in alike}]
    print(f"taken over: {', '.join(taken)}", file=sys.stderr)
    if left:
        print(f"without a parameter of that name: {', '.join(left)}", file=sys.stderr)
    return unparse(parse(Source(text)))


def _same_decisions(space: Space, other: Space, places: dict[str, str]) -> dict[str, str]:
    """By path what another architecture has decided where the space has the same decision, and nothing is said of
    it."""
    from nasdsl.compiler.write import last_step

    whole: Graph = other.graph if other.whole is None else other.whole
    found = {}
    for path, decision in space.graph.decisions.items():
        theirs = whole.decisions.get(path)
        if theirs is None or path not in other.pins or not there(theirs, other.pins):
            continue
        text = theirs.describe(other.pins[path])
        known = decision.kind != "choice" or text in [decision.describe(option) for option in range(decision.n)]
        if known and path not in places and last_step(path) not in places and path not in space.params:
            found[path] = text
    return found


def _decided(space: Space) -> dict[str, dict[str, str]]:
    """By the last name of their path the values of decisions, each with a path that has it; and parameters, where no
    decision has their name."""
    from nasdsl.compiler.elaborate.values import show

    whole: Graph = space.graph if space.whole is None else space.whole
    found: dict[str, dict[str, str]] = {}
    for path, value in space.pins.items():
        decision = whole.decisions.get(path)
        name = path.rpartition(".")[2].partition("[")[0]
        if decision is not None and name != "input" and there(decision, space.pins):
            found.setdefault(name, {}).setdefault(decision.describe(value), path)
    for name, value in space.params.items():
        found.setdefault(name, {show(value): name})
    return found


def _split(text: str) -> tuple[str, str]:
    """
    Raises:
        UsageError: it is not PLACE=VALUE.
    """
    place, equals, value = text.partition("=")
    if not equals or not place.strip() or not value.strip():
        raise UsageError(f"a pin is written PLACE=VALUE, such as stage.depth=2, and not `{text}`")
    return place.strip(), value.strip()
