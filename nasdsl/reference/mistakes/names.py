"""Mistakes of names and of calls."""

from __future__ import annotations

from nasdsl.reference.mistakes.mistake import Mistake as M

TITLE = "Names and calls"

MISTAKES = (
    M(
        "unknown-name",
        "A word has no value here: no `let`, parameter or label of that name is in scope.",
        "The nearest name is told. A label holds in its own body, below its line.",
        "conv(widht)",
    ),
    M(
        "unknown-operator",
        "No operator, form or function has that name.",
        "`nasdsl help` lists them; names of other frameworks are answered with what to write.",
        "cnv(8)",
    ),
    M(
        "unknown-argument",
        "The operator has no parameter of that name.",
        "`nasdsl help NAME` shows its parameters.",
        "conv(8, kernal: 3)",
    ),
    M(
        "unknown-fusion",
        "The name of a fusion is needed, and none is called so.",
        "Declare it with `fusion`.",
        "branches(conv(8), conv(8, stride: 2))\nfuse(exchange)\nconcat(scale: 1/1)",
    ),
    M(
        "unknown-entry",
        "A fusion has no such entry.",
        "It has same, down, up, any, from, merge, then and new.",
        "fusion join { smae: identity(), from: all, merge: sum() }\nnetwork { conv(8), fuse(join) }",
    ),
    M(
        "unknown-slot",
        "A detector has no such slot.",
        "Its slots are backbone, neck, proposals and head.",
        "detector { backbon: conv(8, stride: 8), head: retina(3) }",
    ),
    M(
        "unknown-field",
        "A tensor, a record or an operator has no part of that name.",
        "A tensor has `width` and `scale`.",
        "a: conv(8)\nconv(a.channels)",
    ),
    M(
        "unknown-option",
        "A decision has no such alternative, or a condition compares with a word that is none.",
        "The alternatives are told.",
        "let k = oneof(small, large)\nnetwork { conv(8 if k == big else 16) }",
    ),
    M(
        "unknown-space",
        "The file has no space of that name, or a space is made of one that is nowhere.",
        "Look at the name.",
        "space mine = yours with { }\n",
        whole=True,
    ),
    M(
        "ambiguous-name",
        "Several spaces of the file that is used have an operator of that name.",
        "Move it out of the spaces.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M(
        "ambiguous-word",
        "The key of a `match` is an alternative and the name of another value as well.",
        "Rename one of the two.",
        "operator f(kind) {\n  let small = 3\n  match kind { small: conv(small), large: conv(16) }\n}\nnetwork { "
        "f(oneof(small, large)) }",
    ),
    M(
        "duplicate",
        "Something has its name twice: a declaration, an argument, an entry, a label, a pin.",
        "Leave one out, or rename it.",
        "let a = 1\nlet a = 2\nnetwork { conv(a) }",
    ),
    M(
        "duplicate-option",
        "Two alternatives of a choice are the same, or have the same name.",
        "Leave one out, or name them: `oneof(a: conv(8), b: conv(8))`.",
        "conv(oneof(8, 8))",
    ),
    M("missing-argument", "The call does not give an argument that it has to.", "Write it.", "conv()"),
    M("unnamed-argument", "Only the first argument may stand without a name.", "Write `name: value`.", "conv(8, 3)"),
    M(
        "wrong-count",
        "A function has too few or too many arguments, or a pin another number of values than there are copies or "
        "items.",
        "The message says how many.",
        "conv(floor(8, 2))",
    ),
    M(
        "bad-argument",
        "An argument has a value that it cannot have: of another kind, out of its range, or none of the allowed ones.",
        "`nasdsl help NAME` says what each may be.",
        "conv(8, norm: layer)",
    ),
    M(
        "fusion-as-operator",
        "A fusion is no step.",
        "Write `fuse(name)`.",
        "fusion join { same: identity(), from: all, merge: sum() }\nnetwork { conv(8), join() }",
    ),
    M(
        "not-callable",
        "A value that was decided where it is defined takes no arguments.",
        "Write its name alone.",
        "let width = oneof(8, 16)\nnetwork { conv(width(2)) }",
    ),
    M(
        "not-an-operator",
        "A step is needed, and this is a value.",
        "Write a call, or a labelled tensor with `->`.",
        "conv(8)\n3",
    ),
    M(
        "not-a-tensor",
        "A list of labelled tensors is needed, and an item is something else.",
        "Give steps labels, and write these.",
        "conv(8)\nsum(from: [3])",
    ),
    M(
        "no-label",
        "An alternative in braces has no name of its own.",
        "Write `label: { ... }`.",
        "conv(8)\noneof({ conv(8), relu() }, { conv(8), conv(8) })",
    ),
    M("bad-label", "A step's label is a word.", "Write `name: step`.", "3: conv(8)"),
    M(
        "recursion",
        "An operator, a function or a fusion uses itself without end.",
        "End it by a condition, or write `repeat`.",
        "operator block() = block()\nnetwork { block() }",
    ),
    M(
        "unused",
        "A warning: a declaration is used by nothing.",
        "Leave it out, or use it.",
        "let width = 8\nnetwork { conv(16) }",
    ),
)
