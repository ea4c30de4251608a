"""Mistakes of tensors: shapes that do not fit, and steps that nothing reaches."""

from __future__ import annotations

from nasdsl.reference.mistakes.mistake import Mistake as M

TITLE = "Networks"

MISTAKES = (
    M(
        "no-network",
        "The space has no network.",
        "Write `network { ... }` or `detector { ... }`.",
        "space mine {\n  input 3 x 8 x 8\n}\n",
        whole=True,
    ),
    M(
        "no-input",
        "The space does not say what comes in.",
        "Write `input 3 x 224 x 224`.",
        "space mine {\n  network { conv(8) }\n}\n",
        whole=True,
    ),
    M("no-space", "The file defines no space.", "Write `space name { ... }`.", "let a = 3\n", whole=True),
    M(
        "bad-output",
        "The network, or the body of an `auxiliary`, ends in nothing or in several branches.",
        "End it with a head such as `classify(10)`; bring branches together with `concat`, `sum` or `pick`.",
        "branches(conv(8), conv(8, stride: 2))",
    ),
    M(
        "bad-shape",
        "The operator cannot make a tensor of what comes in with these arguments, for some or all choices.",
        "The message names the parameter and what would fit.",
        "conv(16)\nconv(16, groups: 5)",
    ),
    M(
        "width-mismatch",
        "Tensors that are added, or a path and its target, differ in width, for some or all choices.",
        "Bring both to one width, such as by `conv(width)`.",
        "conv(8) + conv(16)",
    ),
    M(
        "scale-mismatch",
        "Tensors that are added, or a path and its target, differ in scale, for some or all choices.",
        "Give both the same strides, or `resize(to: 1/4)`.",
        "conv(8) + conv(8, stride: 2)",
    ),
    M(
        "kind-mismatch",
        "One tensor is a feature map and the other a vector or a sequence of tokens.",
        "`global_pool()` makes a vector of a map, `to_tokens()` tokens, `to_map()` a map of tokens.",
        "conv(8)\nsum(identity(), global_pool())",
    ),
    M(
        "items-mismatch",
        "One tensor has more items an image than the other, such as regions.",
        "Bring together what is of the same regions.",
        "detector {\n  backbone: branches(conv(8, stride: 8))\n  proposals: rpn()\n  head: {\n    levels: "
        "branches()\n    one: levels -> pick(1/8) -> global_pool()\n    many: branches(levels, regions) -> "
        "roi_align(7) -> global_pool()\n    sum(one, many)\n  }\n}",
    ),
    M(
        "branch-mismatch",
        "Sets of different numbers of branches cannot be added.",
        "Give both the same levels.",
        "sum(branches(conv(8), conv(8, stride: 2)), branches(conv(8), conv(8, stride: 2), conv(8, stride: "
        "4)))\npick(1/1)",
    ),
    M(
        "several-branches",
        "An operator takes one tensor, and several branches come in.",
        "Use `parallel { ... }`, or bring them together first.",
        "branches(conv(8), conv(8, stride: 2))\nconv(8)",
    ),
    M(
        "no-such-branch",
        "No branch is at that scale, for some or all choices.",
        "The scales that there are are told.",
        "branches(conv(8), conv(8, stride: 2))\npick(1/4)",
    ),
    M(
        "missing-entry",
        "A fusion lacks an entry that a path needs: `up`, `down`, `same`, `new`, `merge` or `from`.",
        "Add it.",
        "fusion join { same: identity(), from: all, merge: sum() }\nnetwork { branches(conv(8), conv(8, stride: "
        "2)), fuse(join), concat(scale: 1/1) }",
    ),
    M(
        "nothing-incoming",
        "`in`, `at` or `inputs` stands where nothing comes in.",
        "Write it inside an operator.",
        "let w = in\nnetwork { conv(w) }",
    ),
    M(
        "nothing-comes-in",
        "A warning: nothing reaches a step, because what stands before it is `none` for all choices.",
        "`identity()` hands on what comes in.",
        "a: conv(8)\nb: none -> conv(8)\nsum(a, b)",
    ),
    M(
        "image-for-step",
        "A warning: `in` or `at` is that of the image here, and not that of what comes into the step.",
        "Give the width a name with `let`, or put the step into an operator.",
        "conv(8)\nconv(2 * in)",
    ),
    M(
        "one-pixel",
        "A warning: a level that `extend` makes is no coarser than the one before it, which has one pixel left.",
        "Make fewer levels, or a larger input.",
        "branches(conv(8, stride: 32))\nextend(1)\nconcat(scale: 1/32)",
    ),
    M(
        "never-read",
        "A warning: what a step makes leads to no output.",
        "Read it, or leave it out.",
        "branches(conv(8), conv(8, stride: 2))\npick(1/1)",
    ),
    M(
        "tied-weights",
        "Steps that are to share weights differ in what shapes these.",
        "`share: none` gives a step weights of its own.",
        "conv(8)\nfor k in [batch, none] { conv(8, norm: k, share: weights) }",
    ),
    M(
        "no-regions",
        "A head needs regions, and the detector proposes none, for some or all choices.",
        "Fill the slot `proposals`, or say with `require` which head goes with which.",
        "detector { backbone: branches(conv(8, stride: 8)), head: rcnn(3) }",
    ),
    M(
        "auxiliary-detector",
        "A detector cannot have an `auxiliary`.",
        "Leave it out.",
        "detector {\n  backbone: { conv(8, stride: 8) -> auxiliary(weight: 0.4) { classify(3) } -> branches() }\n  "
        "head: retina(3)\n}",
    ),
    M(
        "read-outside",
        "What is made in the braces of an `auxiliary` is read outside of them.",
        "Make it in front of the `auxiliary`.",
        "conv(8)\na: auxiliary(weight: 1) { b: conv(8), b -> classify(3) }\nsum(a, b)",
    ),
)
