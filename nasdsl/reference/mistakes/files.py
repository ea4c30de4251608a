"""Mistakes of data, weights, results, and of whatever lies around a space."""

from __future__ import annotations

from nasdsl.reference.mistakes.mistake import Mistake as M

TITLE = "Data, weights, results, Python"

_NETWORK = "input 1 x 16 x 16\nnetwork { conv(8, kernel: 3), classify(10) }"

MISTAKES = (
    M(
        "unknown-code",
        "`nasdsl explain` was asked for a code that there is not.",
        "`nasdsl explain` lists all.",
        command="nasdsl explain scale-missmatch",
    ),
    M(
        "usage",
        "The command line is wrong: options that do not go together, or a value that is none.",
        "`nasdsl COMMAND --help` has the options.",
        _NETWORK,
        "nasdsl check mine.space -D width",
    ),
    M(
        "file",
        "A file cannot be read or written.",
        "The reason of the operating system is told.",
        command="nasdsl fmt /",
        told=False,
    ),
    M(
        "output",
        "What is to be written would overwrite something that is not a result of nasdsl, or cannot be written.",
        "Name another file.",
        _NETWORK,
        "nasdsl draw mine.space -o mine.space",
        told=False,
    ),
    M(
        "no-file",
        "A search starts from a file, because its result names that file.",
        "Save the text, and search the file.",
        command="nasdsl search -",
        told=False,
    ),
    M(
        "data",
        "Data cannot be read: no layout fits, several do, or something in it is damaged.",
        "The message names the file. The page on data has a table of all layouts; `--reader NAME` chooses one.",
        _NETWORK,
        "nasdsl train mine.space --data mine.space",
    ),
    M(
        "no-images",
        "There is no image to predict for.",
        "Name images, or a folder of them.",
        _NETWORK,
        "nasdsl predict mine.space empty/ -o found",
        told=False,
    ),
    M(
        "no-weights",
        "The file of weights is missing.",
        "Train with `nasdsl train`, or name one with `--weights`.",
        _NETWORK,
        "nasdsl eval mine.space",
        told=False,
    ),
    M(
        "bad-weights",
        "A file of weights does not fit the network, or holds something else.",
        "Name the one that was written beside this file.",
        _NETWORK,
        "nasdsl eval mine.space --weights other.safetensors",
        told=False,
    ),
    M(
        "wrong-task",
        "The weights are of another task than the network.",
        "Name other weights.",
        _NETWORK,
        "nasdsl predict mine.space photos/ -o found",
        told=False,
    ),
    M(
        "no-predictions",
        "For this task nothing is known that could be drawn or written of predictions.",
        "The tasks that have some are told.",
        command="nasdsl predict mine.space photos/ -o found",
        told=False,
    ),
    M(
        "too-many-classes",
        "A mask of 8 bits has at most 255 classes.",
        "Predict with a network of fewer.",
        command="nasdsl predict mine.space photos/ -o found",
        told=False,
    ),
    M(
        "bad-latency-table",
        "A table of latencies cannot be read, or is none.",
        "Make it with `nasdsl profile`.",
        _NETWORK,
        "nasdsl cost mine.space --measure latency --latency mine.space",
    ),
    M(
        "no-table",
        "A measure is read from a file, and none is named.",
        "Name it with `--latency` or `--measured NAME=FILE`.",
        _NETWORK,
        "nasdsl cost mine.space --measure latency",
    ),
    M(
        "cannot-draw",
        "A picture cannot be made.",
        "Graphviz's `dot` has to be installed for svg, pdf and png; `-o mine.dot` needs none.",
        _NETWORK,
        "nasdsl draw mine.space -o mine.bmp",
    ),
    M(
        "export",
        "A network cannot be exported in this form.",
        "The message says what is in the way.",
        _NETWORK,
        "nasdsl export mine.space --to python",
        told=False,
    ),
    M(
        "export-differs",
        "An exported network gives other numbers than the one that it was made of. This is a mistake in nasdsl.",
        "Please report it, with the file.",
        command="nasdsl export mine.space --to python",
        told=False,
    ),
    M(
        "demo",
        "A step of `nasdsl demo` failed.",
        "Run the command that is told, to see why.",
        command="nasdsl demo",
        told=False,
    ),
    M(
        "plugin",
        "A package that offers operators, tasks, methods, evaluators, readers or measures does not load, offers "
        "something else, takes a name that is in use, or raises.",
        "The package, the file and the line are told; `NASDSL_TRACEBACK=1` shows the whole traceback.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M(
        "internal",
        "A mistake in nasdsl, not in your file.",
        "Please report it, with the traceback that `NASDSL_TRACEBACK=1` shows.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M(
        "argument",
        "A Python function was given what it does not take.",
        "Its docstring says what it takes.",
        command='nasdsl.cost(space, measures=["speed"])',
        told=False,
    ),
    M(
        "architecture",
        "Values are no architecture of the space. What is wrong with them is told with a code of its own.",
        "Give values by path: `nasdsl.sample(space)[0]` has them all.",
        command='nasdsl.pin(space, {"a": 1})',
        told=False,
    ),
    M(
        "no-units",
        "Units are to be removed of what has none.",
        "Name `units` that are there.",
        command="supernet.remove(...)",
        told=False,
    ),
    M(
        "bad-row",
        "A row of an array of architectures has values where its decisions are absent, or lacks some.",
        "Make rows with `population.draw` or `Encoding.encode`.",
        command="population.costs(rows)",
        told=False,
    ),
    M(
        "error",
        "The root of all exceptions of nasdsl, `NasdslError`; what is raised has a code of its own.",
        "Catch it to catch them all.",
        command="except nasdsl.NasdslError",
        told=False,
    ),
)
