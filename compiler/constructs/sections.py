"""The sections of a space."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "network",
        "Sections",
        Manual(
            "network { steps }",
            "the network: steps from the input to the output",
            Example("network { conv(oneof(8, 16), kernel: 3), classify(10) }", 2),
            "It ends in one tensor, as a rule in a head: `classify`, `segment`, `keypoints`, `regress`, `detect3d`. "
            "Here `in`, `at` and `inputs` are those of the image; inside an operator they are those of what comes in.",
        ),
        rules=("section",),
    ),
    Construct(
        "detector",
        "Sections",
        Manual(
            "detector { backbone: ..., neck: ..., proposals: ..., head: ... }",
            "a detector: four slots in place of a network",
            Example(
                """
                detector {
                  backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
                  neck: oneof(none, fpn(16, levels: 3..4))
                  proposals: oneof(none, rpn())
                  head: oneof(retina(3), rcnn(3))
                }
                require (head == retina) == (proposals == none)
                """,
                4,
                input="3 x 64 x 64",
            ),
            "The backbone gives levels, the neck makes levels of them, the proposals make regions of those, and the "
            "head reads both. `neck` and `proposals` may be `none`. What a slot needs and gives is checked for "
            "every combination.",
        ),
        bound=(("regions", "in `head`: what the proposals gave"),),
        rules=("section",),
        also=("backbone", "neck", "proposals", "head"),
    ),
    Construct(
        "defaults",
        "Sections",
        Manual(
            "defaults { parameter: value }",
            "values of parameters of the catalogue's operators wherever a file does not give them",
            Example(
                "defaults { act: oneof(relu, swish), norm: group, norm_groups: 4 }\nnetwork { conv(16), conv(16) }", 2
            ),
            "They hold for the whole network, wherever the section stands, and for the library's operators where "
            "these leave the parameter open. A decision in them is one decision.",
        ),
        rules=("section",),
    ),
    Construct(
        "search",
        "Sections",
        Manual(
            "search shrink { setting: value }",
            "settings of a search, which `nasdsl search` runs",
            Example(
                """
                network { mixconv(16, hidden: { 3: units(2), 5: units(2) }), classify(10) }
                search shrink { target: macs <= 0.5, train: { epochs: 2 } }
                """,
                15,
            ),
            "The word behind `search` is the runtime: see the pages of searches. `--set name=value` sets one from "
            "outside, `--runtime` another runtime. In settings a bare word is a word, and the path of a part of the "
            "network stands in quotes.",
        ),
        rules=("section",),
    ),
    Construct(
        "train",
        "Sections",
        Manual(
            "train { setting: value }",
            "settings of `nasdsl train`",
            Example(
                "network { conv(8, kernel: 3), classify(10) }\ntrain { epochs: 2, optimiser: { name: sgd, lr: 0.1 } }",
                1,
            ),
            "As the entry `train` of a search; see the page of training settings.",
        ),
        rules=("section",),
    ),
    Construct(
        "published",
        "Sections",
        Manual(
            "published { name: value }",
            "figures that a paper prints, kept beside the space; nothing reads them but people and tests",
            Example("network { conv(8, kernel: 3), classify(10) }\npublished { top1: 75.2, params: 5.3M }", 1),
        ),
        rules=("section",),
    ),
)
