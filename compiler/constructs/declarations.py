"""What a space and a file declare."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "param",
        "Declarations",
        Manual(
            "param name = value, param name in [a, b]",
            "a constant that can be set from outside: any value of that kind, or one of a list, the first by default",
            Example(
                "param width = 16\nparam kind in [plain, wide]\nnetwork { conv(width if kind == plain else 2 * "
                "width) }",
                1,
            ),
            "`-D name=value` on the command line, `nasdsl.load(file, name=value)` and `with { name: value }` set "
            "it. It is no decision, and no decision may stand in it.",
        ),
        rules=("param",),
        words=("param",),
    ),
    Construct(
        "input",
        "Declarations",
        Manual(
            "input channels x height x width",
            "what comes into the network: one image",
            Example(
                "let side = oneof(160, 192, 224)\ninput 3 x side x side\nnetwork { conv(8, stride: 2), classify(10) }",
                3,
            ),
            "The sides may be decided: each architecture then reads images in its own size. A row of a table is `n "
            "x 1 x 1`. Costs are for this size.",
        ),
        rules=("input",),
        words=("input",),
    ),
    Construct(
        "let",
        "Declarations",
        Manual(
            "let name = value, let name(a, b = 1) = value",
            "a name for a value, which is decided once; with parameters a function, each call of which decides",
            Example(
                """
                let width = oneof(8, 16)
                let twice(x) = 2 * x
                network { conv(width), conv(twice(width)) }
                """,
                2,
            ),
            "All that use the name share its decision: this is how choices are tied. A `let` of a call, `let cell = "
            "block(8)`, decides the inside of the block once; each use of the name has layers and weights of its "
            "own. Called with arguments, `cell(out: 16)` is the same block, so decided, with these. In a body a "
            "`let` holds from its line on; `operator.name` asks for the values that it had.\n\nA function's "
            "arguments go by position or by name, `in [a, b]` behind one says what it may be.",
        ),
        rules=("let", "formals", "formal", "allowed"),
        words=("let",),
        also=("function",),
    ),
    Construct(
        "operator",
        "Declarations",
        Manual(
            "operator name(a, b in [1, 2], c = 3) { steps }, operator name(...) = value",
            "an operator: text that each use runs with its arguments, with decisions and weights of its own",
            Example(
                """
                operator block(out, kernel = oneof(3, 5)) {
                  residual { conv(out, kernel: kernel), conv(out, kernel: 3, act: none) }
                  relu()
                }
                network { block(8), block(16) }
                """,
                4,
            ),
            "The first argument may stand bare, the others are named; a bare name after the first, `stride`, is "
            "short for `stride: stride`. An argument is decided once, at the call; a default is decided anew at "
            "each use. `in [1, 2]` says what an argument may be. A parameter called `body` takes text in braces. An "
            "operator is a value: it can be an argument, an item of a list, an alternative of `oneof`. Every "
            "operator also takes `share` (see there).",
        ),
        bound=(
            ("in", "the width of what comes in"),
            ("at", "the scale of what comes in"),
            ("inputs", "the tensors that come in, as a list"),
            ("branches", "how many they are"),
            ("earlier", "the labelled tensors of this body so far"),
            ("unused", "those of them that nothing has read"),
        ),
        rules=("operator", "formals", "formal", "allowed"),
        words=("operator",),
    ),
    Construct(
        "fusion",
        "Declarations",
        Manual(
            "fusion name { same: ..., down: ..., up: ..., from: ..., merge: ..., then: ..., new: ... }",
            "a rule by which `fuse` brings branches together",
            Example(
                """
                fusion top_down {
                  same: identity()
                  up: conv(width, kernel: oneof(1, 3)) -> upsample(to: scale)
                  from: coarser
                  merge: sum()
                }
                network {
                  branches(conv(16, stride: 2), conv(16, stride: 4))
                  fuse(top_down)
                  concat(scale: 1/2)
                }
                """,
                2,
            ),
            "`same`, `down` and `up` are paths to a target of the same, a coarser and a finer scale, `any` is for "
            "all that have none; they end in the target's width and scale. `from` says which branches feed a "
            "target: `neighbours` (one up, itself, one down), `all`, or along the levels `finer` or `coarser`, each "
            "reading its own input and the output before it. `merge` acts where two or more meet, `then` on every "
            "output, `new` makes a level that did not come in from the coarsest output. A fusion may have "
            "parameters and `let`s.",
        ),
        bound=(
            ("in, at", "the width and scale of the source"),
            ("width, scale", "those of the target"),
        ),
        rules=("fusion",),
        words=("fusion",),
        also=("neighbours", "same", "down", "up", "any", "from", "merge", "then", "new", "finer", "coarser"),
    ),
    Construct(
        "require",
        "Declarations",
        Manual(
            "require condition",
            "what must hold; architectures that break it are none of the space's",
            Example(
                """
                let first = oneof(8, 16, 32)
                let second = oneof(8, 16, 32)
                network { conv(first), conv(second) }
                require first <= second
                """,
                6,
            ),
            "It may stand in a space, in an operator's body (it then holds for each use) and in `with`. "
            "`operator.name` is the list of the values that a `let` or an argument had in all uses that are there: "
            "`require sum(stage.depth) <= 15`. A requirement that always holds, or never does, is told.",
        ),
        rules=("require",),
        words=("require",),
    ),
    Construct(
        "budget",
        "Declarations",
        Manual(
            "require macs <= 600M, require 1M <= params, require flops <= 2 * 600M",
            "a requirement on what the whole network costs",
            Example("network { conv(oneof(8, 16, 32), kernel: 3) }\nrequire macs <= 500K", 3),
            "Measures are `macs`, `flops` (2 x MACs), `params`, `memory`, `access`, `latency` (with a table of "
            "`nasdsl profile`), and those of installed packages. Counts, draws, searches and extremes stay inside "
            "exactly; a budget that nobody can meet is an error that names the cheapest architecture.",
        ),
        also=("macs", "flops", "params", "cost"),
    ),
)
