"""Regression: tables are read or refused, errors are the textbook's, and a search finds a network that predicts."""

from __future__ import annotations

import csv
import json
import math
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nasdsl import cli, spaces
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.layers.head import Regress
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import DataError, DataSplits, TableSet, open_data, told
from nasdsl.runtime.fit import evaluate_space, train
from nasdsl.runtime.problem import Exploration, Result
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.tasks import Normalise, Regression, TaskError
from nasdsl.runtime.trained import trained_space
from tests import shipped
from tests.datafiles import store
from tests.networks import check_extraction, check_predictions

Cells = Sequence[Any]


def text_of(rows: Cells, between: str = ",") -> bytes:
    return "\n".join(between.join(str(cell) for cell in row) for row in rows).encode()


def table(path: Path, count: int = 200, seed: int = 0) -> Path:
    """Two targets of very different size that hang on three features of very different size, and one that is noise."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 4)) * [1, 1000, 0.01, 1] + [0, 5e4, 0, 0]
    a = 1e5 * (np.sin(3 * x[:, 0]) + (x[:, 1] - 5e4) / 1000)
    b = 1e-3 * (100 * x[:, 2] - x[:, 0] ** 2)
    rows = [["w", "x", "y_small", "z", "noise", "target"]]
    rows += [[*map(repr, map(float, (*one[:2], s, *one[2:], t)))] for one, s, t in zip(x, b, a, strict=True)]
    path.write_bytes(text_of(rows))
    return path


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_table_is_read_by_its_content(tmp_path: Path, between: str) -> None:
    rows = [["age", "price", "size"], [1, 2.5, 3], ["4e1", -5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]]
    (tmp_path / "houses.csv").write_bytes(b"\xef\xbb\xbf" + text_of(rows, between) + b"\n\n")
    data = open_data(str(tmp_path / "houses.csv"), "regression")
    assert (data.classes, data.channels, data.size) == (("size",), 2, (1, 1))
    assert (len(data.train), len(data.val)) == (4, 1)
    sets = [part.batch(list(range(len(part)))) for part in (data.train, data.val)]
    features, targets = (torch.cat(parts) for parts in zip(*sets, strict=True))
    assert features.shape == (5, 2, 1, 1) and targets.shape == (5, 1)
    found = sorted(zip(features[:, :, 0, 0].tolist(), targets.tolist(), strict=True))
    assert found == [([1, 2.5], [3]), ([7, 8], [9]), ([10, 11], [12]), ([13, 14], [15]), ([40, -5], [6])]
    lines = told(data)
    assert "read as tables (regression)" in lines[0] and "training: 4 rows, from" in lines[1]
    assert "targets: 1: size (the last column)" in lines and "features: 2: age, price" in lines


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        ("a,b,target", ["target"]),
        ("target_b,a,Target_c", ["target_b", "Target_c"]),
        ("y,x,z", ["y"]),
        ("y1,y_2,x", ["y1", "y_2"]),
        ("year,yield,x", ["x"]),
        ("targeted,x,Y", ["Y"]),
    ],
)
def test_targets_are_told_by_their_names(tmp_path: Path, names: str, targets: list[str]) -> None:
    (tmp_path / "t.csv").write_bytes(text_of([names.split(","), *[[i, i * i, i % 4] for i in range(6)]]))
    assert open_data(str(tmp_path / "t.csv"), "regression").classes == tuple(targets)


@pytest.mark.parametrize("packed", [False, True])
def test_splits_are_files_or_a_column(tmp_path: Path, packed: bool) -> None:
    rows = [["a", "b"], *[[i, i * i] for i in range(4)]]
    swapped = [["b", "a"], [100, 10], [121, 11]]
    members = {"train.csv": text_of(rows), "test.csv": text_of(swapped), "readme.md": b"about"}
    data = open_data(store(tmp_path, members, packed), "regression")
    assert data.val.batch([0, 1])[0].flatten().tolist() == [10, 11]
    assert data.val.batch([0, 1])[1].flatten().tolist() == [100, 121]
    column = [["a", "Split", "b"], [1, "train", 2], [3, "val", 4], [5, "train", 6], [7, "test", 8]]
    (tmp_path / "one").mkdir()
    data = open_data(store(tmp_path / "one", {"t.csv": text_of(column)}, packed), "regression")
    assert data.train.batch([0, 1])[1].flatten().tolist() == [2, 6]
    assert (len(data.val), data.channels) == (1, 1)


MISTAKES: list[tuple[bytes, str]] = [
    (b"a,b\n1,2\n3,\n5,6\n", "line 3 of .* has no value for `b`"),
    (b"a,b\n1,2\nNA,4\n?,6\n", "line 3 of .* has no value for `a`, nor have 1 other rows"),
    (b"a,b\n1,2\nred,4\n5,6\n", "line 3 of .* has `red` for `a`, which is no number"),
    (b"a;b\n1;2\n3;4,5\n", "line 3 of .* has `4,5` for `b`, which is no number"),
    (b"a,b\n1,2\n3,inf\n5,6\n", "line 3 .* no finite 32-bit number"),
    (b"a,b\n1,2\n3,4e99\n5,6\n", "line 3 .* no finite 32-bit number"),
    (b"a,b\n1,2\n3\n5,6\n", "line 3 of .* has 1 values, and the first line names 2"),
    (b"a,a\n1,2\n3,4\n", "has 2 columns called `a`"),
    (b"a,\n1,2\n3,4\n", "column 2 of .* has no name"),
    (b"a,b\n1,2\n", "has one row"),
    (b"a,b\n1,7\n2,7\n3,7\n", "the target `b` has one value in all training rows"),
    (b"y1,y2\n1,7\n2,8\n3,7\n", "has no column that is a feature"),
    (b"a,split,b\n1,train,2\n3,mine,4\n", "line 3 of .* has `mine` for `split`"),
    (b"a,split,b\n1,train,2\n3,train,4\n", "no row of .* is for `test`"),
]


@pytest.mark.parametrize(("content", "message"), MISTAKES, ids=lambda v: v[:24] if isinstance(v, bytes) else "")
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "t.csv"), "regression")


def test_what_is_no_table_is_not_taken_for_one(tmp_path: Path) -> None:
    for number, content in enumerate((b"1,2\n3,4\n", b"just text\nof words\n", b"", b"\x00\xff\x00,\n\x01")):
        (tmp_path / f"{number}.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"can(not)? be read"):
            open_data(str(tmp_path / f"{number}.csv"), "regression")
    train = {"train.csv": b"a,b\n1,2\n3,4\n", "val.csv": b"a,c\n1,2\n3,4\n"}
    with pytest.raises(DataError, match="has no column `b`"):
        open_data(store(tmp_path, train, True), "regression")
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"data for regression \(tables\), but the task is classification"):
        open_data(str(tmp_path / "t.csv"), "classification")
    (tmp_path / "c.csv").write_bytes(b"a,c,b\n1,5,2\n3,5,4\n4,5,1\n")
    assert (
        told(open_data(str(tmp_path / "c.csv"), "regression"))[-1] == "warning: `c` has one value in all training rows"
    )


def test_there_is_a_table_without_data() -> None:
    data = open_data(None, "regression")
    assert (len(data.train) + len(data.val), data.channels, len(data.details["features"])) == (442, 10, 10)


# --- The task ---------------------------------------------------------------------------------------------------------


def splits_of(features: torch.Tensor, targets: torch.Tensor) -> DataSplits:
    names = tuple(f"t{i}" for i in range(targets.shape[1]))
    part = TableSet(features, targets)
    return DataSplits(part, part, "regression", names, features.shape[1], (1, 1), "made")


def test_losses_are_those_of_torch_in_deviations_of_the_training_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(5000, 3, generator=generator) * torch.tensor([1.0, 1e4, 0.0]) + torch.tensor([0, 1e6, 7])
    targets = torch.randn(5000, 2, generator=generator) * torch.tensor([1e5, 1e-3]) + torch.tensor([3e6, 0])
    task = Regression.from_data(splits_of(features, targets))
    np.testing.assert_allclose(task.normalise.mean, features.double().mean(0).tolist())
    np.testing.assert_allclose(task.normalise.std[:2], features.double().std(0, correction=0).tolist()[:2])
    assert task.normalise.std[2] == 1
    std = targets.double().std(0, correction=0).float()
    outputs = (targets + torch.randn(5000, 2, generator=generator) * std).requires_grad_()
    losses = {
        "squared": F.mse_loss(outputs / std, targets / std),
        "smooth": F.smooth_l1_loss(outputs / std, targets / std, beta=0.5),
    }
    for criterion, expected in losses.items():
        loss = Regression.from_data(splits_of(features, targets), criterion=criterion, beta=0.5).loss(outputs, targets)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(*(torch.autograd.grad(x, outputs, retain_graph=True)[0] for x in (loss, expected)))
    for options, message in (({"criterion": "absolute"}, "no criterion"), ({"beta": 0}, "above 0")):
        with pytest.raises(TaskError, match=message):
            Regression.from_data(splits_of(features, targets), **options)
    with pytest.raises(TaskError, match="no augmentation"):
        task.augment("flip")


def test_the_metric_is_that_of_the_textbook() -> None:
    from sklearn.metrics import r2_score, root_mean_squared_error

    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(300, 2, generator=generator) * torch.tensor([1e4, 1.0]) + torch.tensor([5e5, 0.0])
    outputs = targets + torch.randn(300, 2, generator=generator) * torch.tensor([3e3, 0.5])
    task = Regression.from_data(splits_of(torch.rand(300, 1), targets))
    metric = task.metric()
    for start in range(0, 300, 64):
        metric.update(outputs[start : start + 64], targets[start : start + 64])
    found = metric.compute()
    each = [root_mean_squared_error(targets[:, i].double(), outputs[:, i].double()) for i in range(2)]
    assert next(iter(found)) == task.headline == "RMSE" and not task.higher_is_better
    np.testing.assert_allclose([found["RMSE_t0"], found["RMSE_t1"]], each)
    mse = np.mean([(error / std) ** 2 for error, std in zip(each, task.std, strict=True)])
    np.testing.assert_allclose((found["MSE"], found["RMSE"]), (mse, math.sqrt(mse)))
    np.testing.assert_allclose(found["R2"], r2_score(targets.double(), outputs.double()))
    metric.reset()
    mean = targets.mean(0, keepdim=True).expand(300, 2)
    metric.update(mean, targets)
    assert metric.compute()["RMSE"] == pytest.approx(1, abs=1e-6)
    assert metric.compute()["R2"] == pytest.approx(0, abs=1e-6)
    metric.reset()
    same = torch.ones(3, 2)
    metric.update(same, same)
    assert metric.compute()["R2"] == 1


def test_a_head_gives_numbers_in_their_units() -> None:
    head = Regress(5, 2).double()
    task = Regression(2, ("a", "b"), (1e5, 0.0), (2e4, 1e-3), Normalise((0.0,) * 5, (1.0,) * 5))
    task.prepare(torch.nn.Sequential(head))
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    expected = F.linear(x.mean((2, 3)), head.linear.weight, head.linear.bias) * torch.tensor([2e4, 1e-3]).double()
    torch.testing.assert_close(head(x), expected + torch.tensor([1e5, 0.0]).double())
    known = task.learnt_by(torch.nn.Sequential(head.float()), task.normalise)
    assert known.mean == (1e5, 0.0) and known.std == pytest.approx((2e4, 1e-3))
    assert not any("scale" in name or "shift" in name for name, _ in head.named_parameters())


# --- From end to end --------------------------------------------------------------------------------------------------


def test_every_shape_of_the_perceptron_is_what_was_predicted() -> None:
    graph = shipped.graph("mlp", changes="widths: [4, 6], most: 2, features: 5, targets: 2")
    found = sample(graph, 12, seed=0)
    for architecture in found[:4]:
        check_predictions(graph, architecture)
    supernet = Supernet(graph)
    for module in supernet.modules():
        if isinstance(module, Regress):
            module.scale.copy_(torch.tensor([3.0, 5.0]))
    check_extraction(graph, *found)
    assert all(
        torch.equal(module.scale, torch.tensor([3.0, 5.0]))
        for module in supernet.extract(found[0]).modules()
        if isinstance(module, Regress)
    )


TRAIN = {"epochs": 12, "batch": 32, "recalibrate": 2}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a table and what a search of it found, and the run."""
    folder = tmp_path_factory.mktemp("regression")
    data = table(folder / "rows.csv")
    overrides = {"train": TRAIN, "candidates": 4, "follow": ["largest"], "every": 12}
    options = Options(str(data), folder / "run", accelerator="cpu", overrides=overrides)
    found = search(read(spaces.path("mlp")), folder / "found.space", options, "mlp_small", {"most": "2"}).result
    assert isinstance(found, Result)
    assert found.metrics["RMSE"] < 0.7 and 0.4 < found.metrics["R2"] <= 1
    return folder, folder / "run"


def run(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def test_a_search_fits_the_space_to_the_table(searched: tuple[Path, Path]) -> None:
    folder, _ = searched
    space, network, about = trained_space(elaborate(read(folder / "found.space")))
    assert space.graph.input.shape.channels == 4 and not space.graph.decisions
    assert about.features == ("w", "x", "z", "noise") and about.classes == ("y_small", "target")
    (head,) = [module for module in network.modules() if isinstance(module, Regress)]
    data = open_data(str(folder / "rows.csv"), "regression")
    rows, targets = data.train.batch(list(range(len(data.train))))
    torch.testing.assert_close(head.scale, targets.double().std(0, correction=0).float())
    torch.testing.assert_close(head.shift, targets.double().mean(0).float())
    np.testing.assert_allclose(about.mean or (), rows.double().mean(0).flatten().tolist())
    lines = (folder / "run" / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line)["RMSE"] for line in lines]
    assert len(scores) == 4
    taken = json.loads(lines[scores.index(min(scores))])["architecture"]
    assert f"layer.depth: {taken['layer.depth']}" in (folder / "found.space").read_text(encoding="utf-8")


def test_evolution_takes_the_least_error(searched: tuple[Path, Path], tmp_path: Path) -> None:
    folder, supernet = searched
    overrides = {"supernet": str(supernet), "trials": 8}
    options = Options(str(folder / "rows.csv"), tmp_path / "run", accelerator="cpu", overrides=overrides)
    defines = {"most": "2"}
    best = search(read(spaces.path("mlp")), tmp_path / "best.space", options, "mlp_small", defines, "evolve")
    found = best.result
    assert isinstance(found, Exploration)
    assert found.objectives.names == ("RMSE",)
    assert found.front[0].objectives[0] == min(trial.objectives[0] for trial in found.trials)
    assert run("eval", tmp_path / "best.space", "--data", folder / "rows.csv") == 0


def test_a_trained_network_is_measured_predicts_and_is_exported(
    searched: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = searched
    source, data = read(folder / "found.space"), folder / "rows.csv"
    options = Options(str(data), tmp_path / "run", accelerator="cpu", overrides={**TRAIN, "epochs": 4})
    trained = train(source, tmp_path / "w.safetensors", options, None, {})
    space, network, about = trained_space(elaborate(source), tmp_path / "w.safetensors")
    measured = evaluate_space(elaborate(source), options, tmp_path / "w.safetensors", 64)
    assert measured == pytest.approx({key: trained.metrics[key] for key in measured}, rel=1e-5)

    # Rows that nobody has seen, their columns in another order and without the targets; and a table that is scaled
    # otherwise, which must not change what a network sees of a row.
    rows = list(csv.DictReader(data.read_text(encoding="utf-8").splitlines()))[:5]
    names = ["noise", "z", "extra", "x", "w"]
    given = [names, *[[{**row, "extra": "?"}[name] for name in names] for row in rows]]
    (tmp_path / "new.csv").write_bytes(text_of(given))
    assert run("predict", folder / "found.space", tmp_path / "new.csv", "-o", tmp_path / "out", "--weights",
               tmp_path / "w.safetensors", "--device", "cpu") == 0  # fmt: skip
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        predicted = list(csv.DictReader(file))
    assert [row["line"] for row in predicted] == ["2", "3", "4", "5", "6"]
    features = torch.tensor([[float(row[name]) for name in ("w", "x", "z", "noise")] for row in rows])[:, :, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in (about.mean, about.std))
    with torch.no_grad():
        expected = network.eval()((features - mean) / std)
    found = [[float(row[name]) for name in ("y_small", "target")] for row in predicted]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-8)

    assert (
        run("export", folder / "found.space", "-o", tmp_path / "alone.py", "--weights", tmp_path / "w.safetensors") == 0
    )
    module = runpy.run_path(str(tmp_path / "alone.py"))
    assert module["TARGETS"] == ("y_small", "target") and module["FEATURES"] == ("w", "x", "z", "noise")
    with torch.no_grad():
        torch.testing.assert_close(module["load"]()(module["normalise"](features)), expected)

    other = tmp_path / "other.csv"
    other.write_bytes(text_of([["w", "x", "z", "noise", "y_small", "target"], *[
        [*(float(value) * 3 for value in list(row.values())[:2]), row["z"], row["noise"], row["y_small"], row["target"]]
        for row in csv.DictReader(data.read_text(encoding="utf-8").splitlines())
    ]]))  # fmt: skip
    worse = evaluate_space(elaborate(source), Options(str(other), accelerator="cpu"), tmp_path / "w.safetensors", 64)
    assert worse["RMSE"] > measured["RMSE"]
    swapped = tmp_path / "swapped.csv"
    swapped.write_bytes(
        text_of([["x", "w", "z", "noise", "y_small", "target"], *[[1, 2, 3, i, i, i] for i in range(9)]])
    )
    with pytest.raises(DataError, match="learnt from the features w, x, z, noise"):
        evaluate_space(elaborate(source), Options(str(swapped), accelerator="cpu"), tmp_path / "w.safetensors", 64)
    (tmp_path / "less.csv").write_bytes(b"w,x\n1,2\n")
    capsys.readouterr()
    assert run("predict", folder / "found.space", tmp_path / "less.csv", "-o", tmp_path / "none") == 1
    assert "has no column `z`" in capsys.readouterr().err
    assert run("predict", folder / "found.space", tmp_path / "new.csv", "-o", tmp_path / "n", "--score", "0.5") == 2
    assert space.name == "found"


def test_a_table_that_does_not_fit_is_told(tmp_path: Path) -> None:
    data = str(table(tmp_path / "rows.csv", 20))
    for defines, code in (({"features": "7"}, "wrong-input"), ({"targets": "3"}, "wrong-outputs")):
        with pytest.raises(CompileError) as caught:
            search(read(spaces.path("mlp")), tmp_path / "f.space", Options(data, tmp_path / "r"), None, defines)
        assert caught.value.diagnostics[0].code == code
    image = Source(
        "space x {\n input 4 x 8 x 8\n network { regress(2) }\n search sample {}\n}", "x", tmp_path / "x.space"
    )
    with pytest.raises(CompileError, match="input of the network is 4 x 8 x 8"):
        search(image, tmp_path / "f.space", Options(data, tmp_path / "r"))
    assert elaborate(image).graph.decisions == {}
