"""Words that mean something of the place where they stand."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "in",
        "Words of a place",
        Manual(
            "in",
            "the width of what comes into the operator, the path or the branch around it",
            Example("operator widen() = conv(oneof(1, 2) * in)\nnetwork { conv(8), widen(), widen() }", 4),
            "In the network itself it is the width of the image. Between two values, `a in list` asks whether a "
            "list has a value.",
        ),
        rules=("incoming",),
        words=("in",),
    ),
    Construct(
        "at",
        "Words of a place",
        Manual(
            "at",
            "the scale of what comes in: 1/4 at a quarter of the input's resolution",
            Example(
                "operator settle() = conv(16, stride: 2 if at > 1/4 else 1)\nnetwork { conv(8, stride: oneof(1, 2, "
                "4)), settle() }",
                3,
            ),
        ),
    ),
    Construct(
        "width",
        "Words of a place",
        Manual(
            "width",
            "in `parallel` the width of the branch; in a fusion that of the target",
            Example(
                "branches(conv(8), conv(16, stride: 2))\nparallel { conv(width, kernel: oneof(1, 3)) "
                "}\nconcat(scale: 1/1)",
                4,
            ),
            "`tensor.width` is that of a labelled tensor.",
        ),
    ),
    Construct(
        "scale",
        "Words of a place",
        Manual(
            "scale",
            "in `parallel` the scale of the branch; in a fusion that of the target",
            Example(
                "branches(conv(8), conv(16, stride: 2))\nparallel { conv(in, kernel: oneof(1, 3)) if scale == 1 "
                "else identity() }\nconcat(scale: 1/1)",
                2,
            ),
            "`tensor.scale` is that of a labelled tensor.",
        ),
    ),
    Construct(
        "inputs",
        "Words of a place",
        Manual(
            "inputs, inputs[0], for x in inputs { ... }",
            "the tensors that come into the operator, the path or the branch around it",
            Example(
                """
                operator cell(out) {
                  a: inputs[0] -> conv(out, kernel: oneof(1, 3))
                  b: inputs[1] -> conv(out, kernel: oneof(1, 3))
                  sum(a, b)
                }
                network { s0: conv(8), s1: conv(8), last(earlier, 2) -> cell(16) }
                """,
                4,
            ),
            "One for a tensor, all branches for a set of branches.",
        ),
    ),
    Construct(
        "earlier",
        "Words of a place",
        Manual(
            "earlier",
            "the list of the labelled tensors so far in the same body, also across `for`, `repeat` and `match`",
            Example("a: conv(8)\nb: conv(8)\nc: conv(8)\nsum(from: manyof(2, earlier))", 3),
            "Copies come one by one. A step without a label is no candidate. The label of a loop is one more, beside "
            "those in its body: what its last copy made comes twice then.",
        ),
    ),
    Construct(
        "unused",
        "Words of a place",
        Manual(
            "unused",
            "those of `earlier` that nothing has read, as far as they fit where they are added",
            Example("a: conv(8)\nb: conv(8)\nc: sum(from: manyof(1, [a, b]))\nd: sum(from: unused)", 2),
            "It is the `also` of `fuse` in SpineNet: blocks that no other has read go into the output.",
        ),
    ),
    Construct(
        "branches",
        "Words of a place",
        Manual(
            "branches",
            "as a word, how many branches come in; `branches(a, b)` is the form",
            Example(
                "operator each() = parallel { conv(8 * branches, kernel: oneof(1, 3)) }\nnetwork { "
                "branches(conv(8), conv(16, stride: 2)), each(), concat(scale: 1/1) }",
                4,
            ),
        ),
    ),
    Construct(
        "regions",
        "Words of a place",
        Manual(
            "regions",
            "in the head of a detector, what its proposals gave",
            Example(
                """
                operator boxed(classes) {
                  levels: branches()
                  features: branches(levels, regions) -> roi_align(oneof(5, 7)) -> flatten()
                  scores: features -> linear(classes + 1)
                  deltas: features -> linear(4)
                  branches(regions, scores, deltas) -> detect_regions(classes)
                }
                detector {
                  backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
                  proposals: rpn()
                  head: boxed(3)
                }
                """,
                2,
                input="3 x 64 x 64",
            ),
        ),
    ),
)
