"""What silently drops a part of a network is said at its place, with how much is lost; what drops nothing is not."""

from __future__ import annotations

import pytest

from nasdsl.cli import main
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError, Diagnostic
from nasdsl.compiler.elaborate import budgets
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source


def warned(body: str, input: str = "3 x 32 x 32") -> list[Diagnostic]:
    return list(elaborate(Source(f"space s {{\n  input {input}\n{body}\n}}\n")).warnings)


def said(body: str) -> list[tuple[str, str]]:
    return [(d.code, d.span.text) for d in warned(body) if d.span is not None]


NEVER_TAKEN = {
    "if": "network { conv(8), conv(8) if oneof(true, false) else none, conv(8), classify(10) }",
    "match": "let d = oneof(a, b)\n network { conv(8), match d { a: conv(8), b: none }, conv(8), classify(10) }",
    "oneof": "network { conv(8), oneof(conv(8), none), conv(8), classify(10) }",
    "at the end of a body": "operator f() { conv(8), oneof(conv(8), none) }\n network { f(), classify(10) }",
    "in a copy": "network { repeat 2 { oneof(conv(8), none) }, classify(10) }",
    "in the last of some copies": "network { repeat oneof(1, 2) { oneof(conv(8), none) }, classify(10) }",
}


@pytest.mark.parametrize("name", NEVER_TAKEN)
def test_a_step_left_out_of_the_only_way_is_told(name: str) -> None:
    (warning,) = warned(NEVER_TAKEN[name])
    assert warning.span is not None
    assert (warning.code, warning.span.text) == ("never-taken", "none")
    assert "identity()" in warning.help


@pytest.mark.parametrize("name", NEVER_TAKEN)
def test_the_number_lost_is_what_comes_back_with_identity(name: str) -> None:
    text = f"space s {{\n  input 3 x 32 x 32\n{NEVER_TAKEN[name]}\n}}\n"
    with_none, with_identity = (elaborate(Source(t)) for t in (text, text.replace("none", "identity()")))
    lost = count(with_identity.graph).total - count(with_none.graph).total
    assert with_none.warnings[0].label == f"{lost} architecture{' is' if lost == 1 else 's are'} lost"


@pytest.mark.parametrize(
    "body",
    [
        "network { conv(8), oneof(conv(8), none) + identity(), classify(10) }",
        "network { conv(8), residual { oneof(conv(8), none) }, classify(10) }",
        "network { conv(8), oneof(conv(8), none) + oneof(conv(8), none), classify(10) }",
        "network { conv(8), oneof(conv(8), identity()), classify(10) }",
        "network { a: conv(8), b: oneof(conv(8), none), c: a + b, classify(10) }",
        "operator f() = oneof(conv(8), none)\n network { conv(8), f() + f(), conv(8), f() + identity(), classify(10) }",
        "network { conv(8), conv(8, kernel: oneof(1, 3)), classify(10) }",
    ],
)
def test_an_edge_that_may_be_left_out_is_no_mistake(body: str) -> None:
    assert not warned(body)


def test_steps_behind_nothing_are_told() -> None:
    (warning,) = warned("network { a: conv(8), none, conv(8, kernel: 3), a -> classify(10) }")
    assert warning.span is not None
    assert (warning.code, warning.span.text) == ("nothing-comes-in", "conv(8, kernel: 3)")
    assert warning.others[0].span.text == "none"


def test_layers_that_lead_nowhere_are_told() -> None:
    assert said("network { a: conv(8), b: conv(8) -> conv(4), a -> classify(10) }") == [("never-read", "conv(4)")]
    (warning,) = warned("network { a: conv(8), b: conv(8) -> conv(4), a -> classify(10) }")
    assert warning.label == "2 layers lead to no output"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("network { conv(16), conv(2 * in), classify(10) }", ["in"]),
        ("network { conv(16), residual { conv(in) }, classify(10) }", ["in"]),
        ("network { conv(16, stride: 2), resize(to: at / 2), classify(10) }", ["at"]),
        ("network { let w = 2 * in, conv(w), let u = 2 * in, conv(u), classify(10) }", ["in"]),
        ("network { conv(2 * in), classify(10) }", []),
        ("operator f() { conv(2 * in), conv(2 * in) }\n network { conv(16), f(), classify(10) }", []),
        ("network { conv(16), parallel { conv(in) }, classify(10) }", []),
    ],
)
def test_the_width_of_the_image_in_the_place_of_a_steps_is_told(body: str, words: list[str]) -> None:
    found = [d for d in warned(body) if d.code == "image-for-step"]
    assert [d.span.text for d in found if d.span] == words
    assert all("of the image" in d.message and "let" in d.help for d in found)


def test_the_command_line_shows_them(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lost.space"
    file.write_text(f"space s {{\n  input 3 x 32 x 32\n{NEVER_TAKEN['if']}\n}}\n")
    assert main(["check", str(file)]) == 0
    shown = capsys.readouterr()
    assert "warning[never-taken]" in shown.err and "1 architecture is lost" in shown.err


# --- What is not proven -----------------------------------------------------------------------------------------------

SQUEEZED = "network { conv(8 * oneof(1..4)), conv(8 * oneof(1..4), kernel: oneof(1, 3)), classify(10) }\n"


@pytest.fixture
def tangled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A space is small, but taken for one whose exact extremes and costs are out of reach."""

    def refuse(*_: object) -> None:
        raise TooWide("a cost", 1 << 40, 1 << 20)

    monkeypatch.setattr(budgets, "least", refuse)
    monkeypatch.setattr(budgets, "MOST_ARCHITECTURES", 0)


@pytest.mark.usefixtures("tangled")
@pytest.mark.parametrize(
    ("wanted", "unclear"),
    [
        ("require macs <= 1G", []),
        ("require macs <= 400K\nrequire params >= 300", []),
        ("require macs <= 100K\nrequire params >= 8K", ["macs <= 100K"]),
        ("require macs <= 400K or params >= 1G", ["macs <= 400K or params >= 1G"]),
    ],
)
def test_budgets_that_nothing_is_known_to_meet_are_told(wanted: str, unclear: list[str]) -> None:
    assert said(SQUEEZED + wanted) == [("unproven", text) for text in unclear]


@pytest.mark.usefixtures("tangled")
@pytest.mark.parametrize("wanted", ["macs <= 10", "macs >= 1000G", "macs < 10 or params > 1G", "params in 1M..2M"])
def test_budgets_beyond_all_bounds_are_refused_though_the_costs_are_tangled(wanted: str) -> None:
    with pytest.raises(CompileError) as caught:
        warned(f"{SQUEEZED}require {wanted}")
    (found,) = caught.value.diagnostics
    assert found.code == "unaffordable" and found.span is not None and found.span.text == wanted
    assert "missed by at least" in found.label
