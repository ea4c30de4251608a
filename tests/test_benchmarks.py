"""The benchmarks run, and the hand-written rival computes what the compiled supernet computes."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nasdsl
from benchmarks import __main__ as benchmarks
from benchmarks import attention, check, gradient, measure, recipe, rivals, spaces, speed
from benchmarks import rival_tools as tools
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.layers.attention import AxialAttention, LocalAttention
from nasdsl.compiler.layers.conv import Depthwise
from nasdsl.compiler.layers.mixconv import MixConv

SPACES = (("hrnas_small", "small_cifar", 32), ("hrnas_small", "hrnas_small", 64), ("hrnas_code", "hrnas_code", 64))


@pytest.mark.parametrize("file,name,size", [*SPACES[:2], pytest.param(*SPACES[2], marks=pytest.mark.long)])
def test_the_hand_written_network_computes_the_same(file: str, name: str, size: int) -> None:
    space = speed.load(name, file)
    supernet = nasdsl.supernet(space)
    hand = speed.by_hand(supernet, space)
    assert sum(p.numel() for p in hand.parameters()) == sum(p.numel() for p in supernet.parameters())
    for network in (supernet, hand):
        network.double()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    x_BCHW = torch.randn(2, 3, size, size, dtype=torch.double)
    for training in (True, False):
        torch.testing.assert_close(hand.train(training)(x_BCHW), supernet.train(training)(x_BCHW), rtol=1e-5, atol=1e-5)


def test_kept_units_meet_the_share() -> None:
    space = speed.load("small_cifar")
    whole = largest_values(space.graph)
    part = cost_of(space.graph, {**whole, **speed.kept_units(space, 0.3)})["macs"]
    assert 0.25 < part / cost_of(space.graph, whole)["macs"] <= 0.3


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_every_benchmark_says_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        benchmarks.main([name, "--help"])
    assert end.value.code == 0 and name in capsys.readouterr().out


@pytest.mark.long
def test_speed_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["speed", "--quick", "--repeats", "1", "--no-write"])
    assert capsys.readouterr().out.count("small_cifar") == 2 + 4 + 1


def test_steps_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["steps", "--quick", "--repeats", "1", "--subnets", "2", "--no-write"])
    assert capsys.readouterr().out.count("trionet_small") == 1


@pytest.mark.long
def test_startup_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["startup", "spaces/tiny.space", "--repeats", "1", "--no-write"])
    assert "nasdsl.compiler" in capsys.readouterr().out


def test_check_runs_against_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--against", str(check.ROOT), "--rounds", "1", "--repeats", "1"]
    benchmarks.main(["check", "tiny", *given, "--no-write"])
    assert re.search(r"\| tiny +\| +[0-9.]+ \| +[0-9.]+ \| +[0-9.]+ \|", capsys.readouterr().out)


def test_a_checkout_that_cannot_be_measured_is_told(tmp_path: Path) -> None:
    (tmp_path / "nasdsl").mkdir()
    (tmp_path / "nasdsl" / "__init__.py").write_text("wrong")
    with pytest.raises(SystemExit, match="cannot be measured"):
        check.measured(tmp_path, ["tiny"], 1)


def test_attention_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["attention", "--quick", "--repeats", "1", "--images", "1", "--no-write"])
    assert capsys.readouterr().out.count("7 x 7 x 512") == 2 * 3 + 2


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_with_copies_computes_the_same(heads: int) -> None:
    x_BCHW = torch.randn(2, 4, 5, 7)
    local, axial = LocalAttention(4, 8, 4, heads, 3, 2), AxialAttention(4, 8, 4, heads, 5, 7, 2)
    torch.testing.assert_close(attention.UnfoldedLocal(local)(x_BCHW), local(x_BCHW))
    torch.testing.assert_close(attention.UnfoldedAxial(axial)(x_BCHW), axial(x_BCHW))


def test_memory_is_the_most_at_once() -> None:
    def run() -> None:
        for _ in range(3):
            x = torch.ones(2**20) + 1  # two of 4 MiB at once
            del x

    assert 2 * 2**22 <= measure.peak(run, torch.device("cpu")) < 2 * 2**22 + 2**16


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = measure.table(("what", "ms"), [("a", "1.5"), ("b", "12.0")])
    measure.report("some", "Some figures", [("First", text)], tmp_path)
    written = (tmp_path / "some.md").read_text(encoding="utf-8")
    assert written.startswith("# Some figures\n") and "| b    | 12.0 |" in written


# --- Recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["scratch", *(pytest.param(how, marks=pytest.mark.slow) for how in ("sample", "shrink"))]
)
def test_the_default_and_points_of_the_grid_run(how: str, tmp_path: Path) -> None:
    case = next(case for case in recipe.CASES if case.how == how and case.data is None)
    short = dataclasses.replace(case, epochs=0.05)
    for train in ({}, recipe.grid(short)[-1]):
        assert 0 <= recipe.measure(short, tmp_path, train, 0)["value"] <= 1


def test_the_default_is_compared_with_the_best_by_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = recipe.CASES[0]
    points = recipe.grid(case)
    values = {(0, 0): 0.5, (0, 1): 0.9, (1, 0): 0.8, (1, 1): 0.6, (1, 2): 0.7}  # by point and seed
    for i, point in enumerate(points):
        for seed in (0, 1, 2):
            _write(tmp_path, recipe.Job(case, point, seed), values.get((i, seed), 0.1))
    for seed, value in ((1, 0.61), (2, 0.63)):
        _write(tmp_path, recipe.Job(case, {}, seed), value)
    monkeypatch.setattr(recipe, "CASES", (case, recipe.CASES[1]))
    command = ["recipe", "--only", case.name, "--seeds", "2", "--work", str(tmp_path), "--out", str(tmp_path / "told")]
    benchmarks.main(command)
    text = (tmp_path / "told.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| digits | 1,438"))
    assert "| 62.0 ± 1.4 |" in row and "| 65.0 ± 7.1 | -3.0 |" in row and recipe.brief(points[1]) in row
    assert "Behind by more than 2 points: digits." in text and "Not run to their end: MNIST." in text


def _write(folder: Path, job: recipe.Job, value: float) -> None:
    (folder / f"{job.name}.json").write_text(json.dumps({"value": value, "seconds": 1.0}))


# --- Operations on spaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rivals.OURS)
def test_what_a_tool_makes_is_in_the_space_and_costs_what_the_compiler_says(name: str) -> None:
    limits = [300_000_000]
    rivals.verify(name, tools.Worker(name).check(3, limits), limits)


def test_a_tool_that_errs_is_found_out() -> None:
    checked = tools.Worker("numpy").check(1, [])
    checked["draw"]["costs"][0][0] += 1
    with pytest.raises(rivals.ToolError, match="costs"):
        rivals.verify("numpy", checked, [])


def test_tables_by_hand_agree() -> None:
    stages = tools.NumpyStages(0)
    forms, codes = batch = stages.draw(300)
    plain = stages.plain(batch)
    assert (stages.encode(plain)[0] == forms).all() and (tools.codes_of_plain(plain) == codes).all()
    assert (stages.costs(batch) == tools.costs_of_codes(codes)).all()
    assert [tuple(row) for row in stages.costs(batch)] == [tools.cost_of_plain(one) for one in plain]


def test_mutants_by_hand_differ_in_one_decision() -> None:
    tool = tools.Numpy(0)
    parents = tool.draw(3000)
    changed = {"depth": 0, "kernel": 0, "expansion": 0}
    for old, new in zip(tool.plain(parents), tool.plain(tool.mutate(parents)), strict=True):
        stages = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert len(stages) == 1
        a, b = stages[0]
        if len(a) != len(b):
            assert all(x == y for x, y in zip(a, b, strict=False))
            changed["depth"] += 1
        else:
            ((x, y),) = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
            assert (x[0] == y[0]) != (x[1] == y[1])
            changed["kernel" if x[0] != y[0] else "expansion"] += 1
    share = changed["depth"] / 3000  # five decisions of some 43 are depths
    assert 0.08 < share < 0.16 and abs(changed["kernel"] - changed["expansion"]) < 300


def test_draws_by_hand_are_uniform() -> None:
    forms = tools.NumpyStages(0).encode(tools.Numpy(1).plain(tools.Numpy(1).draw(10_000)))[0]
    first = np.cumsum([0, *tools.PER_STAGE])
    for low, high, number in zip(first, first[1:], tools.PER_STAGE, strict=False):
        expected = forms.size * number / sum(tools.PER_STAGE)
        assert abs(((forms >= low) & (forms < high)).sum() - expected) < 5 * expected**0.5


@pytest.mark.parametrize("name", ["numpy", pytest.param("nasdsl", marks=pytest.mark.long)])
def test_rivals_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["rivals", "--tools", name, "--repeats", "1", "--seconds", "0.01", "--many", "1000", "--no-write"])
    text = capsys.readouterr().out
    assert "21,758,655,492,572,485,851" in text and "Did not run" not in text


def test_rivals_without_their_environment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--make-environment"):
        benchmarks.main(["rivals", "--environment", str(tmp_path / "none"), "--tools", "optuna"])


def test_spaces_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["spaces", "tiny", "--repeats", "1", "--no-write"])
    assert "| tiny  |" in capsys.readouterr().out


def test_a_space_that_takes_too_long_is_reported() -> None:
    steps = spaces.measured("hrnas", "hrnas", 1, 1)
    (text,) = spaces.troubles({"hrnas": steps})
    assert text.endswith("not done after 1 s")


def test_numbers_are_brief() -> None:
    assert [rivals.brief(x) for x in (0, 0.123456, 4.567, 98.76, 1234.5, 1.2345e6)] == [
        "0",
        "0.123",
        "4.57",
        "98.8",
        "1,230",
        "1,230,000",
    ]
    assert [spaces.short(x) for x in (7, 12_345, 1_234_567, 10**12)] == ["7", "12.35K", "1.235M", "1T"]


# --- The forms of the layers that were chosen for speed ---------------------------------------------------------------


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_gradients_in_strips(
    kernel: int, stride: int, form: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Depthwise(6, kernel, stride).to(memory_format=form)  # type: ignore[call-overload]
    plain = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    plain.load_state_dict(layer.state_dict())
    monkeypatch.setattr(layer, "in_strips", lambda x: True)
    for height, width in ((1, 1), (2, 3), (4, 4), (5, 8), (9, 7), (16, 16)):
        x_BCHW = torch.randn(3, 6, height, width).contiguous(memory_format=form).requires_grad_()
        ours, theirs = layer(x_BCHW), plain(x_BCHW)
        grad = torch.randn_like(theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours, (x_BCHW, layer.weight), grad),
            torch.autograd.grad(theirs, (x_BCHW, plain.weight), grad),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("squeeze", [0, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_both_forms_of_mixconv_agree(stride: int, squeeze: int) -> None:
    layer = MixConv(6, 10, {3: 5, 5: 7, 7: 4}, stride, squeeze=squeeze).double()
    x_BCHW = torch.randn(2, 6, 9, 8, dtype=torch.double, requires_grad=True)
    together, apart = layer.together(x_BCHW), layer.apart(x_BCHW)
    torch.testing.assert_close(together, apart)
    grad = torch.randn_like(apart)
    weights = (x_BCHW, *layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(together, weights, grad, allow_unused=True),
        torch.autograd.grad(apart, weights, grad, allow_unused=True),
    )


def test_gradient_runs_and_its_rival_computes_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = gradient.pair(4)
    x, weights = torch.randn(2, 3, 32, 32), torch.rand(6, 5)
    ours.relax(dict(zip(ours.gates.values, weights, strict=True)))
    torch.testing.assert_close(ours(x), theirs(x, weights))
    benchmarks.main(["gradient", "--quick", "--repeats", "1", "--subnets", "1", "--no-write"])
    assert capsys.readouterr().out.count("nasbench201") == 1
