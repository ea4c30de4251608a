"""How a space becomes a smaller one."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "with",
        "Narrowing",
        Manual(
            "space small = large with { path: value, parameter: value }",
            "a space made of another: parameters set, decisions pinned or narrowed, input and sections replaced",
            Example(
                """
                space small = large with {
                  width: 8
                  stage.depth: 2
                  stage[0].conv.kernel: oneof(3, 5)
                  stage[1].conv.kernel: 3
                }

                space large {
                  input 3 x 32 x 32
                  param width = 16
                  network { stage: repeat oneof(1..3) { conv(width, kernel: oneof(3, 5, 7)) } }
                }
                """,
                2,
            ),
            "A pin is a value, or a smaller choice: `oneof(...)` of what is left, `units(12)`, `[0..11, 14]` for "
            "units that are kept. A space without decisions is an architecture: what a search finds is written so. "
            "Requirements and sections may be added.",
        ),
        rules=("derived", "pin", "input_word", "place"),
        words=("with",),
        also=("pin", "derived"),
    ),
    Construct(
        "path",
        "Narrowing",
        Manual(
            "stage[0].conv.kernel, stage.conv.kernel, block.width, { repeat.depth: 2 }",
            "the name of a decision: the names of the steps that lead to it, and the `let`, argument or entry that "
            "it is in",
            Example(
                """
                space one = many with {
                  stage.conv.kernel: [3, 5]
                  block: { width: 8 }
                }

                space many {
                  input 3 x 32 x 32
                  operator block() {
                    let width = oneof(8, 16)
                    conv(width)
                  }
                  network { stage: repeat 2 { conv(8, kernel: oneof(3, 5)) }, block(), block() }
                }
                """,
                1,
            ),
            "A step goes by its label, else by its operator's name, numbered where a body has several of that name; "
            "copies add `[0]`, `[1]`, branches `[1/8]`, paths of a fusion `[1/4 -> 1/8]`, a chosen alternative its "
            "name. `residual`, `match` and bare braces add nothing. A repeat's count is `depth`.\n\nWhere indices "
            "are left out all copies are meant, with one value, or a list with one each. A record under a path "
            "prefixes what is in it. The name of an operator means all its uses. An alternative that is a call is "
            "named by the arguments that tell it apart: `ir(k: 3, e: 6)`. `nasdsl sample FILE` shows the paths of a "
            "space.",
        ),
        rules=("place", "field", "index"),
        also=("paths",),
    ),
)
