"""Settings of training and searches: what a file may say, where a mistake is shown, what goes before what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdsl import spaces
from nasdsl.compiler.diagnostics import CompileError, Diagnostic
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.runtime.fit import train_settings
from nasdsl.runtime.recipes import RECIPES, with_recipe
from nasdsl.runtime.runs import started_with
from nasdsl.runtime.settings import Ema, Optimiser, Train, amount, merged, read_settings
from nasdsl.runtime.settle import settle
from nasdsl.runtime.strategies.shrink import Shrink
from tests import shipped

SPACE = """space small {{
  input 1 x 8 x 8
  network {{ mixconv(4, hidden: {{ 3: units(4) }}) -> classify(classes: 10) }}
  search shrink {{ {0} }}
}}
"""


def shrink(entries: str, **overrides: str) -> Shrink:
    """The settings of a file's `search shrink { ... }`, as a search reads them."""
    space = elaborate(Source(SPACE.format(entries)))
    section = space.sections["search"]
    given = merged(section.entries, read_values(overrides), Shrink)
    if isinstance(given.get("train"), dict):
        given["train"] = with_recipe(given["train"], section.spans.get("train.preset"))
    return read_settings(Shrink, given, section.spans, "`search shrink`")


def mistakes(entries: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(CompileError) as caught:
        shrink(entries)
    return caught.value.diagnostics


def shown(diagnostic: Diagnostic) -> str:
    """The text that a diagnostic underlines."""
    assert diagnostic.span is not None
    return diagnostic.span.source.text[diagnostic.span.start : diagnostic.span.end]


# --- Several layers of settings ---------------------------------------------------------------------------------------


def test_a_record_with_another_name_replaces_the_one_that_was_there() -> None:
    entries = "train: { optimiser: { name: sgd, lr: 0.3, momentum: 0.5, nesterov: true } }"
    same = shrink(entries, **{"train.optimiser.lr": "0.2"}).train.optimiser
    assert (same.name, same.lr, same.momentum, same.nesterov) == ("sgd", 0.2, 0.5, True)
    for given in ({"train.optimiser.name": "adamw"}, {"train.optimiser": "{ name: adamw }"}):
        assert shrink(entries, **given).train.optimiser == Optimiser(name="adamw")
    other = shrink(entries, **{"train.optimiser.name": "adamw", "train.optimiser.lr": "0.1"}).train.optimiser
    assert other == Optimiser(name="adamw", lr=0.1)


def test_a_mistake_in_an_option_is_shown_in_what_was_typed() -> None:
    with pytest.raises(CompileError) as caught:
        read_values({"train.epochs": "3 + (4\n* 2"})
    (found,) = caught.value.diagnostics
    assert found.span is not None and found.span.text == "("
    assert (str(found.span), found.span.source.line(1), found.span.source.line(2)) == (
        "train.epochs:1:5",
        "3 + (4",
        "* 2",
    )


@pytest.mark.parametrize("name", ["neck.safetensors", "runs/neck-2.pth", "../a.b/c_d.safetensors", "C:\\a\\b.pth"])
def test_the_name_of_a_file_needs_no_quotes_when_it_is_typed(name: str) -> None:
    assert read_values({"train.init": name}) == {"train": {"init": name}}
    assert read_values({"train.init.matching": name}) == {"train": {"init": {"matching": name}}}


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("1.5M", 1_500_000), ("1e-3", 1e-3), ('"a.b"', "a.b"), ("[0.5, 1]", [0.5, 1])]
)
def test_a_value_that_is_typed_is_no_name_of_a_file(text: str, value: object) -> None:
    assert read_values({"key": text}) == {"key": value}


def test_what_a_run_was_started_with() -> None:
    digest = "3d50b9bc4c2695f5"
    before = {
        "space": digest,
        "settings": {"train": {"epochs": 3, "name": "a"}, "table": None, "budget": ["a"]},
        "seed": 0,
    }
    now = {
        "space": digest[::-1],
        "settings": {"train": {"epochs": 4, "name": "a"}, "table": {"file": "x"}, "budget": []},
    }
    assert started_with(before, before) == ""
    assert started_with(before, now) == (
        'another space, another train.epochs (3, now 4), another table (none, now {"file": "x"}), '
        'another budget (["a"], now []), another seed (0, now none)'
    )
    assert started_with({"settings": {}}, {"settings": {"table": None}}) == "another table"
    many = {str(i): i for i in range(7)}
    assert started_with(many, {}).endswith("another 4 (4, now none), 2 more")


def test_a_value_has_no_entries() -> None:
    with pytest.raises(CompileError, match=r"`train\.optimiser` has a value already and no `lr`") as caught:
        read_values({"train.optimiser": "sgd", "train.optimiser.lr": "0.1"})
    assert caught.value.diagnostics[0].help == "give `train.optimiser` as one record: `train.optimiser={ ... }`"


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "code", "underlined", "words"),
    [
        ("treshold: 0.1", "unknown-setting", "treshold", "`treshold`"),
        ("train: { epoch: 3 }", "unknown-setting", "epoch", "`train.epoch`"),
        ("train: { optimiser: { rate: 0.1 } }", "unknown-setting", "rate", "`train.optimiser.rate`"),
        ("threshold: high", "bad-setting", "high", "`threshold` should be a number"),
        ("threshold: true", "bad-setting", "true", "`threshold` should be a number"),
        ("threshold: -1", "bad-setting", "-1", "greater than or equal to 0"),
        ("every: 0", "bad-setting", "0", "greater than 0"),
        ("every: 5 steps", "bad-setting", "5 steps", "is counted in epochs, not in steps"),
        ("cost_form: exactly", "bad-setting", "exactly", "'exact', 'paper', 'code' or 'uniform'"),
        ("penalty: { speed: 1e-4 }", "bad-setting", "1e-4", "`penalty.speed` names no measure"),
        ("penalty: 1e-4", "bad-setting", "1e-4", "penalty"),
        ("penalty: 1e-4 * macs + 1e-4 * latency", "bad-setting", "1e-4 * macs + 1e-4 * latency", "names one cost"),
        ("penalty: -1e-4 * macs", "bad-setting", "-1e-4 * macs", "negative"),
        ("target: macs <= 0", "bad-setting", "macs <= 0", "limits one cost"),
        ("target: 0.3", "bad-setting", "0.3", "target"),
        ("target: { speed: 3 }", "bad-setting", "3", "`target.speed` names no measure"),
        ("until: 2", "bad-setting", "2", "less than or equal to 1"),
        ("train: 5", "bad-setting", "5", "train"),
        ("train: { preset: hrnas_kity }", "unknown-preset", "hrnas_kity", "`hrnas_kity`"),
        ("train: { preset: [1, 2] }", "unknown-preset", "[1, 2]", "preset"),
        ("train: { batch: 2.5 }", "bad-setting", "2.5", "batch"),
        ("train: { batch: 0 }", "bad-setting", "0", "batch"),
        ("train: { clip: true }", "bad-setting", "true", "`train.clip` should be a number"),
        ("train: { precision: half }", "bad-setting", "half", "precision"),
        ("train: { optimiser: { name: adamax } }", "bad-setting", "adamax", "optimiser.name"),
        ("train: { optimiser: { betas: [0.9, 1] } }", "bad-setting", "[0.9, 1]", "betas"),
        ("train: { optimiser: { name: sgd, momentum: 0, nesterov: true } }", "bad-setting", "true", "momentum"),
        ("train: { optimiser: { lr: 0 } }", "bad-setting", "0", "optimiser.lr"),
        ("train: { optimiser: { lr_batch: 64 } }", "bad-setting", "64", "needs an `lr`"),
        ("train: { schedule: { rise: 1 } }", "bad-setting", "1", "rise"),
        ("train: { schedule: { warmup: 3 } }", "bad-setting", "3", "is not of `onecycle`, which has rise"),
        ("train: { schedule: { name: constant, rise: 0.5 } }", "bad-setting", "0.5", "is not of `constant`"),
        ("train: { ema: { decay: 1 } }", "bad-setting", "1", "ema.decay"),
    ],
)
def test_a_mistake_is_shown_where_it_stands(entries: str, code: str, underlined: str, words: str) -> None:
    (found,) = mistakes(entries)
    assert found.code == code
    assert shown(found) == underlined
    assert words in found.message


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes("treshold: 1, every: fast, train: { epochs: 0, lr: 1 }")
    assert {shown(d) for d in found} == {"treshold", "fast", "0", "lr"}


def test_near_names_are_suggested() -> None:
    assert "threshold" in mistakes("treshold: 1")[0].help
    assert "epochs" in mistakes("train: { epoch: 3 }")[0].help
    assert "hrnas_kitti" in mistakes("train: { preset: hrnas_kity }")[0].help
    assert "preset" in mistakes("train: { zzzz: 3 }")[0].help  # nothing is near, so all names there are


# --- Values -----------------------------------------------------------------------------------------------------------


def test_a_file_may_count_in_epochs() -> None:
    settings = shrink("every: 5 epochs, warmup: 25, free: 1 epochs, train: { epochs: 12 epochs }")
    assert (settings.every, settings.warmup, settings.free, settings.train.epochs) == (5, 25, 1, 12)
    schedule = shrink("train: { schedule: { name: step, warmup: 3 epochs, milestones: [1, 2.5] } }").train.schedule
    assert (schedule.warmup, schedule.milestones) == (3, (1, 2.5))
    assert amount({"epoch": 1}, "epochs") == 1 and amount(7, "epochs") == 7


def test_costs_and_limits() -> None:
    assert shrink("penalty: 1.6e-4 * macs").penalty == {"macs": pytest.approx(1.6e-4)}
    assert shrink("penalty: 2e-3 * latency").penalty == {"latency": pytest.approx(2e-3)}
    assert shrink("penalty: 1e-4 * params").penalty == {"params": pytest.approx(1e-4)}
    assert shrink("target: latency <= 0.5").target == {"latency": 0.5}
    assert shrink("target: memory <= 3M").target == {"memory": 3_000_000}
    assert shrink("target: macs <= 0.3G").target == {"macs": 300_000_000}
    assert shrink("target: params <= 0.5").target == {"params": 0.5}
    assert shrink("target: flops <= 2M").target == {"flops": 2_000_000}
    assert shrink("").target is None


def test_settings_do_not_change_later() -> None:
    settings = shrink("")
    with pytest.raises(ValueError, match="frozen"):
        settings.threshold = 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_are_finite(bad: float) -> None:
    with pytest.raises(CompileError, match="finite"):
        read_settings(Train, {"epochs": bad}, {}, "`train`")


# --- What goes before what --------------------------------------------------------------------------------------------


def test_entries_go_before_the_preset_and_the_command_line_before_both() -> None:
    assert shrink("train: { preset: hrnas_kitti }").train.optimiser.lr == 2e-3
    train = shrink("train: { preset: hrnas_kitti, optimiser: { lr: 0.5 } }").train
    assert (train.optimiser.lr, train.optimiser.name, train.schedule.start_div) == (0.5, "adamw", 10)
    entries = "train: { preset: hrnas_kitti, optimiser: { lr: 0.5 } }"
    train = shrink(entries, **{"train.optimiser.lr": "0.25"}).train
    assert (train.optimiser.lr, train.batch) == (0.25, 16)
    train = shrink("train: { preset: hrnas_kitti, epochs: 3 }", **{"train.preset": "hrnas_keypoints"}).train
    assert (train.epochs, train.batch, train.schedule.milestones) == (3, 384, (170, 200))


def test_a_cost_is_replaced_and_not_joined() -> None:
    settings = shrink("penalty: 1e-4 * macs, target: macs <= 0.3", penalty="1e-3 * latency", target="params <= 0.5")
    assert settings.penalty == {"latency": pytest.approx(1e-3)}
    assert settings.target == {"params": 0.5}
    assert merged({"a": {"x": 1}, "b": 1}, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}, "b": 1}


@pytest.mark.parametrize("name", RECIPES)
def test_every_preset_is_valid(name: str) -> None:
    train = read_settings(Train, with_recipe({"preset": name}), {}, "`train`")
    assert train.preset == name and train.epochs is not None and train.epochs > 1
    assert settle(train, 10_000).model_dump() == train.model_dump()  # a paper leaves nothing to our defaults


def test_presets_are_the_papers_recipes() -> None:
    def of(name: str) -> Train:
        return Train.model_validate(with_recipe({"preset": name}))

    imagenet, city, coco = of("hrnas_imagenet"), of("hrnas_cityscapes"), of("hrnas_keypoints")
    rms = imagenet.optimiser
    assert (rms.name, rms.alpha, rms.momentum, rms.eps, rms.lr, rms.lr_batch) == ("rmsprop", 0.9, 0.9, 1e-3, 0.016, 256)
    assert (imagenet.epochs, imagenet.batch, imagenet.weight_decay) == (350, 1024, 1e-5)
    assert (city.epochs, city.batch, city.optimiser.lr, city.optimiser.eps) == (430, 32, 0.04, 1e-3)
    assert (of("hrnas_ade20k").epochs, of("hrnas_ade20k").batch) == (200, 64)
    assert (coco.epochs, coco.batch, coco.optimiser.lr, coco.weight_decay) == (210, 384, 1e-3, 1e-8)
    assert all(t.weight_decay_form == "loss" and t.init == "mnas" for t in (imagenet, city, coco))
    assert all(t.ema == Ema() for t in (imagenet, city, coco, of("hrnas_ade20k"), of("hrnas_kitti")))
    kitti, trio = of("hrnas_kitti"), of("trionet_imagenet")
    assert (kitti.weight_decay, kitti.weight_decay_form) == (1e-2, "optimiser")
    assert (trio.weight_decay, trio.weight_decay_form, trio.ema, trio.init) == (8e-5, "loss", None, "torch")


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [n for n in spaces.names() if n.startswith("hrnas")])
def test_shipped_searches_have_valid_settings(file: str) -> None:
    section = shipped.space(file).sections["search"]
    entries: dict[str, Any] = dict(section.entries)
    settings = read_settings(Shrink, entries, section.spans, "`search shrink`")
    assert settings.threshold == 1e-3


def trained(text: str, **overrides: str) -> Train:
    space = elaborate(Source(SPACE.format("train: { batch: 7, epochs: 2 }").replace("network", text + "\n  network")))
    return train_settings(space, read_values(overrides))


def test_training_reads_its_own_section_else_that_of_the_search(tmp_path: Path) -> None:
    assert (trained("").batch, trained("").epochs) == (7, 2)
    assert (trained("train { epochs: 9 }").epochs, trained("train { epochs: 9 }").batch) == (9, None)
    assert trained("", epochs="5").epochs == 5
    with pytest.raises(CompileError) as caught:
        trained("train { epochs: many }")
    assert shown(caught.value.diagnostics[0]) == "many"


def test_a_mistake_in_the_searchs_training_is_shown_there() -> None:
    space = elaborate(Source(SPACE.format("every: 3, train: { every: 7 }")))
    with pytest.raises(CompileError) as caught:
        train_settings(space, {})
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert found.span.start == space.source.text.index("every: 7")
