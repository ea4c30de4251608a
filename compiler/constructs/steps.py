"""How steps are put together."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "->",
        "Steps",
        Manual(
            "a() -> b()",
            "one step after the other",
            Example("conv(8) -> conv(16, kernel: oneof(3, 5)) -> classify(10)", 2),
            "In braces a line break or a comma does the same. A pipeline may begin with a labelled tensor, `x -> "
            "conv(8)`, or with a list of tensors, `last(earlier, 2) -> cell()`, which then come in together.",
        ),
        rules=("pipe", "expr"),
        also=("pipe", "sequence"),
    ),
    Construct(
        "{ }",
        "Steps",
        Manual(
            "{ steps }",
            "steps in order, as one step; text that is decided anew for each copy, branch or path",
            Example("conv(8)\nrepeat 2 { conv(8, kernel: oneof(3, 5)) }", 4),
            "Parentheses decide once, braces anew: an argument is a value, made once at the call, while what stands "
            "in braces is text that is run for every copy. With `let k = oneof(3, 5)` above the `repeat` there are "
            "two architectures. Where a record is asked for, braces hold entries.",
        ),
        rules=("block", "group"),
        also=("braces", "block", "( )", "parentheses"),
    ),
    Construct(
        "call",
        "Steps",
        Manual(
            "name(argument, name: argument), name { steps }",
            "a step: an operator of the file, of the library or of the catalogue, or a form of the language",
            Example("conv(16, kernel: oneof(3, 5), stride: 2)", 2),
            "The first argument may stand bare, the others are named. Every operator takes `share`. A bare name, "
            "`relu`, is a word or an operator as a value; a step has parentheses.",
        ),
        rules=("call", "arguments", "named", "atom", "postfix", "simple"),
    ),
    Construct(
        "share",
        "Steps",
        Manual(
            "conv(8, share: weights), conv(8, share: none)",
            "one set of weights for all copies of a step, over `repeat`, `for` and `parallel`",
            Example("conv(8)\nrepeat oneof(1..3) { conv(8, kernel: 3, share: weights) }", 3),
            "Copies are free (decisions and weights of their own), tied (one decision by a `let` above, weights of "
            "their own) or shared (`share: weights`). Between its own choices an operator shares by its own rule: "
            "leading slices for widths, the centre for kernels; `transform` of `conv` picks Once-for-All's. `share: "
            "none` inside `parallel(share: weights)` takes a step out.",
        ),
        also=("weights", "free", "tied", "shared"),
    ),
    Construct(
        "label:",
        "Steps",
        Manual(
            "name: step",
            "a name for a step: of its tensor, and in paths of decisions",
            Example("a: conv(16)\nb: a -> conv(16, kernel: oneof(3, 5))\nsum(a, b)", 2),
            "The tensor may be read below, in the same body. It has a `width` and a `scale`. Labelled tensors are "
            "`earlier` to the steps below them. Without a label a step goes by its operator's name.",
        ),
        rules=("named",),
        also=("label", "named"),
    ),
    Construct(
        "repeat",
        "Steps",
        Manual(
            "repeat n { steps }",
            "copies one after the other, each with decisions and weights of its own; n may be decided",
            Example("conv(8)\nstage: repeat oneof(1..3) { conv(16 if first else 8, kernel: oneof(3, 5)) }", 14),
            "Copy i goes by `[i]` in paths, and the count by `depth`: `stage.depth`, `stage[0].conv.kernel`. Of a "
            "depth that is decided the first copies are there.",
        ),
        bound=(("first", "true in the first copy"),),
        rules=("repeat", "head"),
        words=("repeat",),
        also=("first", "depth"),
    ),
    Construct(
        "for",
        "Steps",
        Manual(
            "for x in list { steps }",
            "the steps for each item, one after the other",
            Example("for width in [8, 16] { conv(width, kernel: oneof(3, 5)) }", 4),
            "The list may be one whose items are decided: `for k in manyof(2, [1, 3, 5])`, `for i in 1..depth`; the "
            "steps are run for the items that are there, and for the others what comes in goes on. Copies go by "
            "`[0]`, `[1]`.",
        ),
        bound=(("x", "the item"),),
        rules=("for", "bind", "head"),
        words=("for",),
    ),
    Construct(
        "none",
        "Steps",
        Manual(
            "none",
            "no tensor: an edge, a branch or a slot that is not there",
            Example("conv(8)\nsum(conv(8, kernel: 3), oneof(none, conv(8)))", 2),
            "In a sum it takes no part. `zero()` is a tensor of zeros, which is there, and `identity()` hands on "
            "what comes in. What has to be there and for some choices is not becomes a requirement (a sum that "
            "nothing reaches) or an error.",
        ),
    ),
)
