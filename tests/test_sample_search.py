"""One-shot training: gradients, decay and distillation of a step, whole searches, kills, and several processes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import load_weights
from nasdsl.runtime.data import DataError
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.fit import evaluate_space, train
from nasdsl.runtime.inherit import SUPERNET, load
from nasdsl.runtime.optim import decayed
from nasdsl.runtime.problem import Exploration, Result
from nasdsl.runtime.provenance import read_origin, read_result
from nasdsl.runtime.sampling import Sampler
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.strategies.sample import OneShot, Sample, distillation
from nasdsl.runtime.tasks import Classification
from nasdsl.runtime.trained import load_network
from nasdsl.runtime.trainer import Trainer
from tests.forks import Forks
from tests.test_search import KILLER, Stop, assert_same_results, run, small_data

pytestmark = pytest.mark.usefixtures("bars")

ROOT = Path(__file__).resolve().parents[1]

SPACE = """
space small {
  input 1 x 12 x 12
  operator block(out) {
    let op = oneof(conv, local)
    residual {
      down: conv(oneof(8, 16))
      match op {
        conv: conv(16, kernel: oneof(3, 5))
        local: local_attention(16, window: oneof(3, 5), qk: oneof(1/2, 1), value: oneof(1/2, 1), heads: oneof(2, 4))
      }
      up: conv(out, act: none)
    }
    relu()
  }
  network {
    stem: conv(8, kernel: 3, stride: 2)
    stage: repeat oneof(1..3) { block(8) }
    classify(classes: 3)
  }
  search sample {
    rule: sandwich
    weight_decay_of: largest
    hold_back: 12
    candidates: 4
    train: {
      epochs: 4, batch: 8, optimiser: { lr: 0.005 }, augment: flip, recalibrate: 2
      weight_decay: 1e-3, weight_decay_form: loss, ema: { decay: 0.9 }
    }
  }
}
"""


def made() -> Space:
    return elaborate(Source(SPACE))


def trainer(seed: int = 0, **entries: Any) -> tuple[Trainer, OneShot]:
    space = made()
    given = {**space.sections["search"].entries, **entries}
    settings = Sample.model_validate({**given, "train": {**space.sections["search"].entries["train"], "ema": None}})
    torch.manual_seed(seed)
    data = held_back(small_data(), settings.hold_back)
    fabric = Fabric(accelerator="cpu", devices=1)
    task = Classification.from_data(data)
    one = Trainer(Supernet(space.graph), task, data, settings.train, fabric, seed, in_parts=True)
    return one, OneShot(one, settings, Sampler(space.graph, settings.rule))


def gradients(network: Supernet) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


# --- A step -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["sandwich", "fair", "hierarchical"])
def test_a_step_sums_the_gradients_of_its_architectures(rule: str) -> None:
    one, shot = trainer(rule=rule, weight_decay_of="all")
    images, targets = next(iter(one.loader.epoch(0)))
    alone = copy.deepcopy(one.network).train()
    expected: dict[str, torch.Tensor] = {}
    losses = []
    for drawn in shot.sampler.architectures(one.seed, one.step):
        alone.zero_grad(set_to_none=True)
        alone.activate(drawn.architecture)
        loss = one.task.loss(alone(images), targets)
        loss.backward()
        losses.append(float(loss.detach()))
        for name, grad in gradients(alone).items():
            expected[name] = expected[name] + grad if name in expected else grad
    one.network.train()
    assert one.gradients(images, targets) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    found = gradients(one.network)
    assert set(found) == set(expected)
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-5, atol=1e-7)


def test_what_a_step_does_not_run_has_no_gradient_and_does_not_move() -> None:
    one, shot = trainer(rule="hierarchical", weight_decay_of="all")
    (drawn,) = shot.sampler.architectures(one.seed, 0)
    used = {name.split(".")[1] for name, _ in one.network.extract(drawn.architecture).named_parameters()}
    before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
    one.fit(1)
    assert used < set(one.network.layers)
    for name, p in one.network.named_parameters():
        assert (p.grad is None) == (name.split(".")[1] not in used)
        if p.grad is None:
            assert torch.equal(p, before[name])


def test_decay_is_that_of_the_largest_architecture() -> None:
    """0.5 * weight * the sum of its squares, as its network alone has them."""
    one, shot = trainer()
    images, targets = next(iter(one.loader.epoch(0)))
    one.network.train()
    one.gradients(images, targets)
    before = gradients(one.network)
    one.decay(0.3)
    (largest,) = [drawn for drawn in shot.sampler.architectures(one.seed, 0) if drawn.role == "largest"]
    alone = one.network.extract(largest.architecture)
    parameters = dict(one.network.named_parameters())
    squares = 0.0
    for name, after in gradients(one.network).items():
        added, p = after - before[name], parameters[name].detach()
        touched = added != 0
        torch.testing.assert_close(added[touched], 0.3 * p[touched], rtol=1e-3, atol=1e-6)
        squares += float((added * p).double().sum())
    own = sum(float(p.detach().double().square().sum()) for name, p in alone.named_parameters() if decayed(name, p))
    assert squares == pytest.approx(0.3 * own, rel=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_in_closed_form(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = distillation(logits, teacher, temperature)
    loss.backward()
    p, q = ((x / temperature).exp() for x in (teacher.detach(), logits.detach()))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    assert float(loss.detach()) == pytest.approx(float((p * (p / q).log()).sum() / 5 * temperature**2))
    torch.testing.assert_close(logits.grad, temperature * (q - p) / 5)
    assert teacher.grad is None
    assert float(distillation(teacher, teacher).detach()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_largest_learns_from_labels_and_teaches_the_others(weight: float) -> None:
    one, shot = trainer(distil={"weight": weight})
    images, targets = next(iter(one.loader.epoch(0)))
    alone = copy.deepcopy(one.network).train()
    teacher, losses = None, []
    for drawn in shot.sampler.architectures(one.seed, 0):
        alone.activate(drawn.architecture)
        outputs = alone(images).detach()
        hard = float(torch.nn.functional.cross_entropy(outputs, targets))
        if teacher is None:
            teacher = outputs
            losses.append(hard)
        else:
            soft = float(torch.nn.functional.kl_div(outputs.log_softmax(1), teacher.softmax(1), reduction="batchmean"))
            losses.append(weight * soft + (1 - weight) * hard)
    one.network.train()
    assert one.gradients(images, targets) == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_layers_kept_ready_are_those_of_the_architecture() -> None:
    """Activated over and over, in any order, moved and shrunk, a supernet computes what a new one does."""
    space = made()
    torch.manual_seed(0)
    network = Supernet(space.graph).eval()
    images = torch.randn(2, 1, 12, 12)
    architectures = sample(space.graph, 12, 0)
    for values in architectures * 2:
        network.activate(values)
        fresh = copy.deepcopy(network)
        fresh.forget()
        fresh.activate(values)
        with torch.no_grad():
            assert torch.equal(network(images), fresh(images))
            torch.testing.assert_close(network(images), network.extract(values)(images))
    network.double()
    network.activate(architectures[0])
    assert network(images.double()).dtype == torch.float64


@pytest.mark.parametrize("amount", [0.25, 11])
def test_samples_held_back_are_not_trained_on(amount: float) -> None:
    data = small_data()
    part = held_back(data, amount)
    assert (len(part.train), len(part.val)) == (33, 11)
    train, val, whole = (
        [split.batch([i])[0].numpy().tobytes() for i in range(len(split))]
        for split in (part.train, part.val, data.train)
    )
    assert sorted(train + val) == sorted(whole)
    assert held_back(data, amount).val[3][1] == part.val[3][1]
    assert held_back(data, 0) is data
    with pytest.raises(DataError, match="cannot be held back"):
        held_back(data, 44)


@pytest.mark.parametrize(("amount", "held"), [(0.001, 1), (0.999, 43)])
def test_a_share_of_few_samples_leaves_some_on_both_sides(amount: float, held: int) -> None:
    part = held_back(small_data(), amount)
    assert (len(part.train), len(part.val)) == (44 - held, held)


def test_vectors_are_held_back_without_classes() -> None:
    data = small_data()
    vars(data.train)["labels"] = torch.rand(len(data.train), 3)
    part = held_back(data, 0.25)
    assert (len(part.train), len(part.val)) == (33, 11)


# --- Whole searches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "small.space"
    file.write_text(SPACE)
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def inherited_scores(space: Path, architecture: Architecture) -> dict[str, float]:
    made, data = elaborate(read(space)), small_data()
    evaluator = load(
        space.parent / "found", made, Classification.from_data(data), data, Fabric(accelerator="cpu", devices=1)
    )
    first = evaluator.evaluate(architecture)
    evaluator.evaluate(sample(made.graph, 1, 5)[0])
    assert evaluator.evaluate(architecture) == first  # whatever came between
    return first


def test_a_search_gives_the_best_candidate_with_its_weights(space: Path) -> None:
    result = run(space)
    found = elaborate(read(space.parent / "found.space"))
    assert not found.graph.decisions
    assert cost_of(found.graph, {}) == {key: int(result.costs[key]) for key in ("macs", "params")}
    again = evaluate_space(elaborate(read(space.parent / "found.space")), Options(accelerator="cpu"), None, 8)
    assert again["top1"] == result.metrics["top1"]
    candidates = lines(space.parent / "found" / "candidates.jsonl")
    assert len(candidates) == 4
    graph = made().graph
    architectures = [Architecture.of(graph, line["architecture"]) for line in candidates]
    best = max(range(4), key=lambda i: candidates[i]["top1"])
    assert result.architecture == architectures[best]
    for line, architecture in zip(candidates, architectures, strict=True):
        assert cost_of(graph, architecture.indices)["macs"] == line["macs"]
    scores = inherited_scores(space, architectures[best])
    assert scores == {key: candidates[best][key] for key in scores}
    rows = lines(space.parent / "found" / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert {f"top1 of {name}" for name in ("smallest", "largest", "conv", "local")} <= rows[-1].keys()


def test_a_supernet_learns(space: Path) -> None:
    run(space, settings={"train__epochs": "30", "rule": "hierarchical", "weight_decay_of": "all"})
    rows = lines(space.parent / "found" / "history.jsonl")
    for name in ("smallest", "largest", "conv", "local"):
        assert rows[-1][f"loss of {name}"] < 0.6 * rows[0][f"loss of {name}"]


def test_candidates_can_be_followed(space: Path) -> None:
    run(space, settings={"follow": "[candidates]", "train__epochs": "2"})
    rows = lines(space.parent / "found" / "history.jsonl")
    candidates = lines(space.parent / "found" / "candidates.jsonl")
    for number, line in enumerate(candidates, 1):  # those that are followed are those that are scored
        assert rows[-1][f"top1 of candidate {number}"] == line["top1"]
    assert not any("smallest" in name for name in rows[0])


def test_candidates_are_inside_the_target(space: Path) -> None:
    run(space, settings={"target": "macs <= 0.4", "train__epochs": "1", "candidates": "6"})
    graph = made().graph
    greatest = Population(graph).extreme("macs", greatest=True).cost
    assert all(line["macs"] <= 0.4 * greatest for line in lines(space.parent / "found" / "candidates.jsonl"))
    with pytest.raises(CompileError, match="nothing to draw"):
        run(space, "other", settings={"target": "macs <= 10"})
    assert not (space.parent / "other.space").exists()


def test_what_was_found_and_others_train_on_with_the_weights_of_the_supernet(space: Path) -> None:
    run(space, settings={"train__epochs": "2"})
    graph = elaborate(read(space)).graph
    other = Architecture.of(graph, lines(space.parent / "found" / "candidates.jsonl")[-1]["architecture"])
    nasdsl.save(elaborate(read(space)), other, space.parent / "other.space", "other")

    def tuned(name: str, inherit: Path, **overrides: Any) -> tuple[Result, dict[str, torch.Tensor]]:
        out = space.parent / f"{name}_tuned.safetensors"
        given = {"batch": 8, "epochs": 1, "init": "torch", "augment": "none", **overrides}
        options = Options(run=space.parent / f"{name}_run", accelerator="cpu", overrides=given, fresh=True)
        done = train(read(space.parent / f"{name}.space"), out, options, None, {}, inherit)
        return done, load_weights(out)[0]

    still: dict[str, Any] = {"optimiser": {"lr": 1e-12}, "weight_decay": 0, "ema": None, "recalibrate": 0}
    folder = space.parent / "found"
    from_run, from_file = tuned("found", folder, **still), tuned("found", folder.with_suffix(".safetensors"), **still)
    for name, tensor in from_run[1].items():
        if "running" not in name and "tracked" not in name:  # recalibrated in the file
            torch.testing.assert_close(tensor, from_file[1][name])
    assert tuned("other", folder)[0].costs["macs"] == cost_of(graph, other.indices)["macs"]
    with pytest.raises(RunError, match="holds no run"):
        tuned("other", space.parent)


def test_evolution_scores_with_the_weights_of_the_supernet(space: Path) -> None:
    run(space)
    graph = made().graph
    limit = int(Population(graph).spread("macs").quantile(0.5))
    overrides = read_values({"trials": "12", "population": "4"}) | {
        "supernet": str(space.parent / "found"),
        "maximise": "top1",
        "minimise": "macs",
        "budget": [{"macs": limit}],
    }
    options = Options(run=space.parent / "evolved", accelerator="cpu", overrides=overrides)
    found = search(read(space), space.parent / "best.space", options, runtime="evolve")
    done, files = found.result, found.files
    assert isinstance(done, Exploration)
    assert len(done.trials) == 12
    for trial in done.front:
        architecture = Architecture.of(graph, trial.proposal.architecture)
        assert trial.objectives == (
            inherited_scores(space, architecture)["top1"],
            cost_of(graph, architecture.indices)["macs"],
        )
        assert trial.objectives[1] <= limit
    assert len(files) == 1 + len(done.front)
    data = small_data()
    task, fabric = Classification.from_data(data), Fabric(accelerator="cpu", devices=1)
    evaluator = load(space.parent / "found", made(), task, data, fabric)
    for file, trial in zip(files, [done.front[0], *done.front], strict=True):
        architecture = Architecture.of(graph, trial.proposal.architecture)
        derived = elaborate(read(file))
        assert cost_of(derived.graph, {}) == cost_of(graph, architecture.indices)
        evaluator.evaluate(architecture)
        image = torch.randn(4, 1, 12, 12)
        with torch.no_grad():
            torch.testing.assert_close(load_network(derived)[0](image), evaluator.trainer.network(image))
        assert load_weights(file.with_suffix(".safetensors"))[1]["top1"] == str(trial.objectives[0])
    assert read_origin(space.parent / "evolved").digest() == elaborate(read(space)).digest()
    for name, out in (("found", "found.space"), ("evolved", "best.space")):
        named = read_result(space.parent / name)
        assert named is not None and named.file == str((space.parent / out).resolve())
        assert named.weights == str((space.parent / out).with_suffix(".safetensors").resolve())


def test_runs_without_a_supernet_are_refused(space: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(space, watch=Stop(6))
    with pytest.raises(RunError, match="not trained to its end"):
        inherited_scores(space, sample(made().graph, 1, 0)[0])
    run(space)
    space.write_text(SPACE.replace("oneof(8, 16)", "oneof(8, 24)"))
    with pytest.raises(RunError, match="another space"):
        inherited_scores(space, sample(made().graph, 1, 0)[0])
    (space.parent / "found" / SUPERNET).write_bytes(b"no weights")
    with pytest.raises(CompileError, match="is no file of weights"):
        inherited_scores(space, sample(made().graph, 1, 0)[0])
    with pytest.raises(RunError, match="holds no run"):
        load(space.parent, made(), None, small_data(), None)  # type: ignore[arg-type]


def test_settings_of_another_version_are_told(space: Path) -> None:
    run(space)
    file = space.parent / "found" / "run.json"
    whole = json.loads(file.read_text())
    damages: tuple[tuple[str, Callable[[dict[str, Any]], object]], ...] = (
        ("it lacks `hold_back`", lambda settings: settings.pop("hold_back")),
        (r"it has `train\.newer`, which is not known", lambda settings: settings["train"].update(newer=1)),
        (r"`train\.batch` should be a number", lambda settings: settings["train"].update(batch="x")),
        (r"`hold_back` should be a valid number", lambda settings: settings.update(hold_back=[])),
    )
    for message, damage in damages:
        told = copy.deepcopy(whole)
        damage(told["settings"])
        file.write_text(json.dumps(told))
        with pytest.raises(RunError, match=rf"run\.json: `settings` is not of `search sample`: {message}"):
            inherited_scores(space, sample(made().graph, 1, 0)[0])


# --- Kills and processes ----------------------------------------------------------------------------------------------


def test_a_killed_training_ends_as_the_unbroken_one(space: Path, forks: Forks) -> None:
    """Killed within an epoch, while files are written, and while candidates are scored."""
    script = space.parent / "killer.py"
    script.write_text(KILLER)
    kills = ["step:3", "write:3", "rename:4", "step:9", "step:16", "rename:3"]
    done = forks.script(script, str(Path(__file__).parent), str(space), *kills)
    assert done.code == 0, done.said
    assert_same_results(space, "unbroken", "broken")
    for name in ("history.jsonl", "candidates.jsonl"):
        texts = [(space.parent / run / name).read_text() for run in ("unbroken", "broken")]
        assert texts[0] == texts[1]
    one, other = (load_weights(space.parent / run / SUPERNET)[0] for run in ("unbroken", "broken"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


RANKS = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import torch
torch.set_num_threads(1)
from tests import test_sample_search as t
from nasdsl.compiler.parse import read
from nasdsl.runtime.search import fabric_for, leave, search
from nasdsl.runtime import search as searching

searching.open_data = t.small_data
fabric = fabric_for(t.Options(accelerator="cpu"), "32-true")
assert fabric.world_size == 2, fabric.world_size
made = t.made()
entries = {**made.sections["search"].entries, "rule": "hierarchical", "weight_decay_of": "all"}
entries["train"] = {**entries["train"], "weight_decay": 0}  # which would be added after averaging
settings = t.Sample.model_validate(entries)
data = t.held_back(t.small_data(), settings.hold_back)
torch.manual_seed(0)
task = t.Classification.from_data(data)
one = t.Trainer(t.Supernet(made.graph), task, data, settings.train, fabric, in_parts=True)
shot = t.OneShot(one, settings, t.Sampler(made.graph, settings.rule))
own = {}
average = one._average_gradients
def spied():
    own.update(t.gradients(one.network))
    average()
one._average_gradients = spied
one.fit(5)
grads = t.gradients(one.network)
both = [fabric.broadcast(own if fabric.global_rank == rank else None, src=rank) for rank in range(2)]
means = all(torch.allclose(grads[n], (both[0][n] + both[1][n]) / 2, atol=1e-7) for n in grads)
differ = any(not torch.equal(both[0][n], both[1][n]) for n in grads)
text = repr([(n, p.tolist()) for n, p in one.network.named_parameters()])
fact = {
    "parameters": hashlib.sha256(text.encode()).hexdigest(),
    "architectures": repr([shot.sampler.architectures(0, step) for step in range(5)]),
    "unused": sorted(n for n, p in one.network.named_parameters() if p.grad is None),
    "means": means,
    "differ": differ,
    "measured": one.evaluate(),
}
Path(sys.argv[2], f"{fabric.global_rank}.json").write_text(json.dumps(fact))
out = Path(sys.argv[3])
options = t.Options(run=out.parent / "run", accelerator="cpu")
result = search(read(out.parent / "small.space"), out, options).result
leave(0)
"""


@pytest.mark.slow
def test_two_processes_train_the_same_parts(space: Path, forks: Forks) -> None:
    folder = space.parent
    script = folder / "ranks.py"
    script.write_text(RANKS)
    done = forks.script(script, str(Path(__file__).parent), str(folder), str(folder / "found.space"), ranks=2)
    assert done.code == 0, done.said
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert [first[key] for key in ("means", "differ")] == [True, True]
    assert first["unused"]
    assert not elaborate(read(folder / "found.space")).graph.decisions
    assert len(lines(folder / "run" / "candidates.jsonl")) == 4
