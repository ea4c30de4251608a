"""Mistakes of files that use others, of narrowing, and of what must hold."""

from __future__ import annotations

from nasdsl.reference.mistakes.mistake import Mistake as M

TITLE = "Files, pins, requirements"

_BASE = """

space large {
  input 3 x 8 x 8
  param width in [8, 16]
  network { repeat oneof(1, 2) { conv(width) } }
}
"""

MISTAKES = (
    M(
        "not-a-space",
        "`use` names a file that does not end in .space.",
        "Spaces stand in files that end so.",
        'use "mine.txt"\n',
        whole=True,
        told=False,
    ),
    M(
        "not-alone",
        "What is used of another file needs something that belongs to its space.",
        "Make that a parameter of the operator.",
        'use "hrnas.space" { searching }\n',
        whole=True,
    ),
    M(
        "use-circle",
        "Files use each other in a circle, or a space is made of itself.",
        "Break the circle.",
        "space mine = mine with { }\n",
        whole=True,
    ),
    M(
        "use-depth",
        "Files use each other more than 30 deep.",
        "Use the file at the bottom.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M(
        "derived-depth",
        "Spaces are made from each other more than 1,000 deep.",
        "Make it of the first.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M(
        "changed-file",
        "A written result names its file with the hash of its content, and that has changed since.",
        "Get the file back as it was, or search again. Layout and comments do not count.",
        'use "tiny.space#0000000000000000"\n\nspace mine = tiny with { }\n',
        whole=True,
    ),
    M(
        "unknown-param",
        "The space has no parameter of that name.",
        "Its parameters are told.",
        "conv(8)",
        command="nasdsl check mine.space -D width=8",
    ),
    M(
        "bad-param",
        "A parameter is given a value that it cannot have: of another kind, or none of the listed ones.",
        "The allowed values are told.",
        f"space mine = large with {{ width: 12 }}{_BASE}",
        whole=True,
    ),
    M(
        "bad-value",
        "What is given to `-D` or `--set` is no value of the language.",
        "Put it in quotes for the shell, and words of it as in a file.",
        "param width = 8\nnetwork { conv(width) }",
        command='nasdsl check mine.space -D "width=8, let b = 9"',
    ),
    M(
        "unknown-decision",
        "No decision or parameter has that path.",
        "`nasdsl sample FILE` shows the paths of a space.",
        f"space mine = large with {{ repeat.dept: 2 }}{_BASE}",
        whole=True,
    ),
    M(
        "missing-decision",
        "An architecture lacks the value of a decision.",
        "Give it; its alternatives are told.",
        command="nasdsl.Architecture.of(space, {})",
        told=False,
    ),
    M(
        "no-values",
        "An architecture is values by path, and something else was given.",
        "Give a dict, or an `Architecture`.",
        command="nasdsl.pin(space, 3)",
        told=False,
    ),
    M(
        "bad-place",
        "The left side of a pin is no path.",
        "Write `path: value`, with numbers and names as indices.",
        "space mine = large with { repeat[[1]].conv: 8 }" + _BASE,
        whole=True,
    ),
    M(
        "bad-order",
        "The value of a `permute` does not have all items, each once.",
        "Write all of them in their order.",
        "space mine = large with {\n  order: [3, 3]\n}\n\nspace large {\n  input 3 x 8 x 8\n  let order = "
        "permute([3, 5])\n  network { for k in order { conv(8, kernel: k) } }\n}\n",
        whole=True,
    ),
    M(
        "requirement-broken",
        "With these values something that must hold cannot.",
        "The requirement is told; change one of the values.",
        "space mine = large with {\n  width: 16\n}\n\nspace large {\n  input 3 x 8 x 8\n  let width = oneof(8, "
        "16)\n  network { conv(width) }\n  require width == 8\n}\n",
        whole=True,
    ),
    M(
        "no-architecture",
        "No architecture meets what must hold.",
        "Loosen a requirement; those that contradict each other are told.",
        "let k = oneof(8, 16)\nnetwork { conv(k) }\nrequire k > 8\nrequire k < 16",
    ),
    M(
        "unaffordable",
        "No architecture meets a budget.",
        "The cheapest architecture is told.",
        "network { conv(oneof(8, 16)) }\nrequire macs <= 1",
    ),
    M(
        "unreadable-budget",
        "A requirement on costs is of a form that cannot be kept to exactly.",
        "Bound one cost by a number: `macs <= 600M`.",
        "network { conv(oneof(8, 16)) }\nrequire macs * params <= 5M",
        command="nasdsl sample mine.space",
    ),
    M(
        "too-wide",
        "Too many decisions hang together for the exact answer.",
        "Pin some of them, or ask for less; what hangs together is told.",
        command="nasdsl count mine.space",
        told=False,
    ),
    M(
        "not-an-architecture",
        "The space still has decisions, and an architecture is needed.",
        "Search it first, or pin its decisions.",
        "conv(oneof(8, 16))",
        command="nasdsl expand mine.space",
    ),
)
