"""The checks that plug-ins are held to find what is broken, and pass what is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasdsl
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.measures.counted import MEASURES
from nasdsl.compiler.measures.measure import Measure
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.operator import Cost, Operator, Param
from nasdsl.runtime.data import ClassificationSet, DataError, Files, Reader, Request, find_readers, open_data
from nasdsl.runtime.data.folders import IMAGE_FOLDERS
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.evaluator import NamedEvaluator
from nasdsl.runtime.evolution.methods import History, Idea, Method, Random, draw
from nasdsl.runtime.strategies import STRATEGIES, find_strategies
from nasdsl.runtime.strategies.thin import ThinSearch
from nasdsl.runtime.tasks import Classification
from nasdsl.testing import (
    ContractError,
    check_evaluator,
    check_function,
    check_measure,
    check_method,
    check_operator,
    check_reader,
    check_runtime,
    check_space,
    check_task,
    offering,
)
from tests.datafiles import png, store
from tests.test_api import pair
from tests.test_search import SPACE

CONV = CATALOGUE["conv"]
SETTINGS = [((Shape(6, 9, 11, 1),), {"out": 5, "kernel": 3}), ((Shape(4, 8, 8, 1),), {"out": 7, "stride": 2})]
SHARED = [(((Shape(6, 9, 9, 1),), {"out": 8, "kernel": 5}), ((Shape(4, 9, 9, 1),), {"out": 3, "kernel": 3}))]


def broken(message: str) -> Any:
    return pytest.raises(ContractError, match=message)


# --- Operators --------------------------------------------------------------------------------------------------------


def test_an_operator_that_keeps_its_word_passes() -> None:
    check_operator(CONV, SETTINGS, sharing=SHARED)
    ghost = replace(CONV, name="ghost", where="elsewhere")
    with offering("nasdsl.operators", ghost=ghost):
        text = "space s { input 3 x 9 x 9\n  network { ghost(oneof(4, 6), kernel: oneof(1, 3)) -> classify(4) } }\n"
        check_space(nasdsl.loads(text))
    with pytest.raises(nasdsl.CompileError, match="ghost"):
        nasdsl.loads(text)


def more_macs(inputs: Any, output: Any, attrs: Any) -> Cost:
    cost = CONV.cost(inputs, output, attrs)
    return Cost(cost.macs + 1, cost.params)


def more_params(inputs: Any, output: Any, attrs: Any) -> Cost:
    cost = CONV.cost(inputs, output, attrs)
    return Cost(cost.macs, cost.params - 1)


def a_float(inputs: Any, output: Any, attrs: Any) -> Cost:
    cost = CONV.cost(inputs, output, attrs)
    return Cost(float(cost.macs), cost.params)


def wider(inputs: Any, attrs: Any) -> Shape:
    return replace(CONV.shape(inputs, attrs), width=CONV.shape(inputs, attrs).width + 1)


def wrong_rows(full: Any, small: Any, inputs: Any, small_inputs: Any) -> Any:
    found = CONV.shares(full, small, inputs, small_inputs)
    return {key: (slice(0, 2), *index[1:]) if key == "conv.weight" else index for key, index in found.items()}


def of_itself(full: Any, small: Any, inputs: Any, small_inputs: Any) -> Any:
    return {"conv.weight": (slice(0, full["out"] - 1), None, None, None)}


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"cost": more_macs}, r"MACs are predicted, and torch counts"),
    ({"cost": more_params}, r"parameters are predicted, and torch has"),
    ({"cost": a_float}, "no whole number"),
    ({"shape": wider}, "the shape is predicted as"),
    ({"shares": wrong_rows}, "of `conv.weight` .* are shared"),
    ({"shares": of_itself}, "does not share all of `conv.weight` with the same setting"),
    ({"doc": ""}, "does not say in one line what it is"),
    ({"params": (*CONV.params, Param("more", "strange", 1, doc="Something."))}, "of the type `strange`"),
    ({"params": (*CONV.params, Param("out", "int", 1, doc="Once more."))}, "two parameters of one name"),
    ({"alive": lambda attrs: False}, "said to have no output"),
    ({"name": "my conv"}, "no name of the language"),
]


@pytest.mark.parametrize(("changed", "message"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_operator_is_found(changed: dict[str, Any], message: str) -> None:
    with broken(message):
        check_operator(replace(CONV, **changed), SETTINGS, sharing=SHARED)


def test_settings_of_operators_are_looked_at() -> None:
    with broken("tried in no setting"):
        check_operator(CONV, [])
    with broken("does not say what out is"):
        check_operator(CONV, [((Shape(4, 8, 8, 1),), {})])
    with broken("no parameter kernl"):
        check_operator(CONV, [((Shape(4, 8, 8, 1),), {"out": 4, "kernl": 3})])


class Nan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan if self.training else x


def test_a_module_that_cannot_learn_is_found() -> None:
    base = CATALOGUE["identity"]
    op = Operator("nan", (), base.shape, base.cost, f"{__name__}:Nan", lambda *given: {}, doc="Breaks in training.")
    with broken("in training the output holds what is no finite number"):
        check_operator(op, [((Shape(4, 8, 8, 1),), {})])


# --- Methods ----------------------------------------------------------------------------------------------------------


class Twice(Method):
    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        return Idea(history.row(history.trials[0])) if len(history.trials) == 2 else draw(history, rng)


class Lazy(Method):
    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        return None if len(history.trials) > 4 else draw(history, rng)


class Outside(Method):
    """It draws from all of the space, whatever the budget."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        row = Candidates(history.candidates.graph, None, False).draw(history.seen, rng)
        return None if row is None else Idea(row)


class Wild(Method):
    """Its draws hang on how often it was asked, whoever asks."""

    asked: ClassVar[Any] = itertools.count()

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        return draw(history, np.random.default_rng(next(self.asked)))


class Noted(Method):
    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        idea = draw(history, rng)
        return None if idea is None else Idea(idea.row, (), {"rng": {1, 2}})


class Early(Method):
    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        idea = draw(history, rng)
        return None if idea is None else Idea(idea.row, (history.index + 1,))


class Memories(Method):
    """It keeps what its ledger does not have."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        self.__dict__["seen"] = self.__dict__.get("seen", 0) + 1
        return draw(history, np.random.default_rng([self.__dict__["seen"]]))


ODDS = """space odds { input 1 x 8 x 8
  network { conv(4, kernel: oneof(1, 3, 5)) -> conv(oneof(4, 8, 12, 16)) -> classify(10) } }
"""


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Twice, "proposes an architecture twice"),
        (Lazy, "gives up where"),
        (Outside, "outside the budget"),
        (Wild, "proposes otherwise with the same seed"),
        (Noted, "notes that JSON cannot hold"),
        (Early, "names parents of trial 0 that come after it"),
        (Memories, "does not go on from the ledger"),
    ],
)
def test_a_broken_method_is_found(method: type[Method], message: str) -> None:
    with broken(message):
        check_method(method, space=nasdsl.loads(ODDS), several=False)


def test_a_method_is_checked_on_any_space() -> None:
    check_method(Random, space=nasdsl.loads(ODDS))


# --- Evaluators -------------------------------------------------------------------------------------------------------


class Figures(NamedEvaluator):
    """Numbers, as they are asked for."""

    settings: ClassVar[Any] = float
    headline: str | None = "figure"
    asked: ClassVar[Any] = itertools.count()

    def __init__(self, scale: float):
        self.scale = scale

    @classmethod
    def make(cls, problem: Any, settings: float, wanted: Collection[str]) -> Self:
        return cls(settings)

    def evaluate(self, architecture: nasdsl.Architecture, seed: int) -> Mapping[str, float]:
        return {"figure": 10 * self.scale * len(architecture)}


class Counting(Figures):
    def evaluate(self, architecture: nasdsl.Architecture, seed: int) -> Mapping[str, float]:
        return {"figure": float(next(self.asked))}


class Nameless(Figures):
    headline = "other"


class Whole(Figures):
    def evaluate(self, architecture: nasdsl.Architecture, seed: int) -> Mapping[str, float]:
        return {"figure": 3}


class Reading(Figures):
    @classmethod
    def contents(cls, settings: Any, base: Path | None) -> Mapping[str, str]:
        return {"file": "the same"}


def test_an_evaluator_that_keeps_its_word_passes() -> None:
    check_evaluator(Figures, 2.0)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Counting, 1.0, "with the same seed"),
        (Nameless, 1.0, "the headline of `nameless` is `other`"),
        (Whole, 1.0, "finite numbers of the type `float`"),
        (Figures, 1e308, "finite numbers of the type `float`"),
        (Reading, 1.0, "reads a file: say which"),
    ],
)
def test_a_broken_evaluator_is_found(kind: type[NamedEvaluator], settings: Any, message: str) -> None:
    with broken(message):
        check_evaluator(kind, settings)


def test_a_file_that_has_changed_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with broken("does not tell that .* has changed"):
        check_evaluator(Reading, 1.0, reads=tmp_path / "f")


# --- Measures ---------------------------------------------------------------------------------------------------------

MACS = next(one for one in MEASURES if one.name == "macs")


def test_a_measure_that_keeps_its_word_passes() -> None:
    thrice = Measure("thrice", "thrice the MACs", "Three times as many.", of=(3, "macs"))
    check_measure(thrice)
    check_measure(replace(MACS, name="again"), space=nasdsl.loads(ODDS))


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (Measure("silent", "", "Something.", of=(3, "macs")), "does not say what it is"),
        (Measure("two ways", "x", "Something.", of=(3, "macs")), "does not say what it is"),
        (replace(MACS, name="both", of=(2, "macs")), "one of `term`, `of` and `read`"),
        (replace(MACS, name="small", scale=0), "the scale of `small` is 0"),
        (replace(MACS, name="part", term=lambda place: place.cost.macs / 2 + 0.25), "whole numbers"),
    ],
)
def test_a_broken_measure_is_found(measure: Measure, message: str) -> None:
    with broken(message):
        check_measure(measure)


# --- Tasks ------------------------------------------------------------------------------------------------------------

NETWORK = "space one { input 1 x 8 x 8\n  network { conv(8, kernel: 3) -> classify(10) } }\n"


@dataclass(frozen=True)
class Uphill(Classification):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -super().loss(outputs, targets).clamp(max=1e3).detach() + 0 * outputs.sum()


@dataclass(frozen=True)
class Several(Classification):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True)
class Renamed(Classification):
    headline: ClassVar[str] = "accuracy"


class Last:
    """The share of the last batch alone."""

    def __init__(self) -> None:
        self.value = 0.0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.value = float((outputs[:, 0] > 0).float().mean()) + len(targets)

    def compute(self) -> dict[str, float]:
        return {"top1": self.value}

    def reset(self) -> None:
        self.value = 0.0


@dataclass(frozen=True)
class Forgetful(Classification):
    def metric(self, device: Any = None) -> Any:
        return Last()


@dataclass(frozen=True)
class Restless(Classification):
    def augment(self, preset: str, size: Any = None, **options: Any) -> Any:
        return lambda images, targets, generator: (images + 1, targets)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Uphill, "do not lower the loss"),
        (Several, "is a tensor of"),
        (Renamed, "its headline is `accuracy`"),
        (Forgetful, "hangs on batches"),
        (Restless, "`none` of `classification` changes something"),
    ],
)
def test_a_broken_task_is_found(task: Any, message: str) -> None:
    data = open_data(None, "classification", size=(8, 8), channels=1)
    with broken(message):
        check_task(task, nasdsl.loads(NETWORK), data)


def test_a_network_that_does_not_fit_a_task_is_found() -> None:
    data = open_data(None, "classification", size=(8, 8), channels=1)
    with broken("asks for 10 outputs"):
        check_task(Classification, nasdsl.loads(NETWORK.replace("classify(10)", "classify(3)")), data)
    with broken("ends in `segment`"):
        check_task(Classification, nasdsl.loads(NETWORK.replace("classify(10)", "segment(10)")), data)


# --- Readers ----------------------------------------------------------------------------------------------------------


def images(folder: Path) -> Path:
    members = {f"{split}/{kind}/{i}.png": png(np.full((12, 16, 3), 20 * i + 60 * (kind == "b"), np.uint8))
               for split in ("train", "val") for kind in "ab" for i in range(3)}  # fmt: skip
    return Path(store(folder, members, False))


def reading(change: Callable[[Any], Any]) -> Reader:
    def read(files: Files, request: Request) -> Any:
        return change(IMAGE_FOLDERS.read(files, request))

    return replace(IMAGE_FOLDERS, read=read)


def other_labels(data: Any) -> Any:
    return replace(data, train=ClassificationSet(data.train._pixels, data.train.labels + 5))


def other_each_time(data: Any) -> Any:
    pixels = data.train._pixels
    return replace(data, train=ClassificationSet(pixels, torch.randint(0, 2, data.train.labels.shape)))


def other_size(data: Any) -> Any:
    return replace(data, size=(3, 3))


def fails(data: Any) -> Any:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: replace(data, reading=None), "does not say what it has read"),
        (other_labels, "labels of the train split"),
        (other_size, "and it says"),
        (lambda data: replace(data, task="segmentation"), "and gives data for segmentation"),
        (lambda data: data.train, "and no `DataSplits`"),
        (other_each_time, "has other samples"),
    ],
)
def test_a_broken_reader_is_found(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    torch.manual_seed(0)
    with broken(message):
        check_reader(reading(change), images(tmp_path))


def test_a_reader_that_takes_what_others_take_is_found(tmp_path: Path) -> None:
    greedy = replace(IMAGE_FOLDERS, name="greedy")
    with broken("is also accepted by image folders"):
        check_reader(greedy, images(tmp_path))
    with broken("does not accept"):
        check_reader(find_readers()["tables"], images(tmp_path))
    anything = replace(IMAGE_FOLDERS, accepts=lambda files: True)
    with broken("accepts an empty folder"):
        check_reader(anything, images(tmp_path))


def test_a_reader_that_stumbles_is_found(tmp_path: Path) -> None:
    def read(files: Files, request: Request) -> Any:
        for name in files.names:
            if not files.read(name).endswith(b"IEND\xaeB`\x82"):
                raise KeyError(name)
        return IMAGE_FOLDERS.read(files, request)

    with broken("raises a KeyError where .* is cut short"):
        check_reader(replace(IMAGE_FOLDERS, read=read), images(tmp_path))
    assert issubclass(DataError, nasdsl.NasdslError)


# --- Runtimes ---------------------------------------------------------------------------------------------------------

QUICK = {"epochs": 2, "batch": 22, "recalibrate": 1}
CHOICE = (
    SPACE.partition("  search shrink")[0].replace("units(", "(").replace("kernel: 3, stride: 2", "KERNEL, stride: 2")
)
SEARCHED: dict[str, tuple[str, dict[str, Any]]] = {
    "shrink": (SPACE, {"train": QUICK}),
    "thin": (SPACE, {"train": QUICK, "target": {"macs": 0.6}}),
    "sample": (SPACE, {"train": QUICK, "candidates": 2, "follow": []}),
    "gradient": (CHOICE.replace("KERNEL", "kernel: oneof(3, 5)") + "}\n", {"train": QUICK}),
    "screen": (CHOICE.replace("KERNEL", "kernel: oneof(1, 3, 5)") + "}\n", {"train": QUICK, "screen": {"keep": 1}}),
    "evolve": (SPACE, {"train": {**QUICK, "epochs": 0.5}, "trials": 3, "distinct": "architecture"}),
}


def test_every_runtime_is_tried() -> None:
    assert set(SEARCHED) == set(STRATEGIES) == set(find_strategies())


@pytest.mark.parametrize("name", SEARCHED)
def test_every_runtime_keeps_to_its_word(name: str) -> None:
    text, settings = SEARCHED[name]
    check_runtime(STRATEGIES[name], nasdsl.loads(text), pair(), settings=settings)


class Careless(ThinSearch):
    """Says that its network costs less."""

    name: ClassVar[str] = "careless"

    def search(self, problem: Any, settings: Any) -> Any:
        result = super().search(problem, settings)
        return replace(result, costs={**result.costs, "macs": result.costs["macs"] - 1})


def test_a_broken_runtime_is_found() -> None:
    text, settings = SEARCHED["thin"]
    with broken("says that its architecture costs"):
        check_runtime(Careless, nasdsl.loads(text), pair(), settings=settings, stop=0)


# --- Functions --------------------------------------------------------------------------------------------------------


def worth(architecture: Any, space: Any) -> float:
    return float(nasdsl.cost(space, architecture)["params"])


def test_functions() -> None:
    check_function(worth)
    check_function(f"{__name__}:worth", nasdsl.loads(ODDS), architectures=2)
    asked = itertools.count()
    with broken("then .* for the same architecture"):
        check_function(lambda one, space: next(asked))
    check_function(lambda one, space: next(asked), same=False)
    with broken("neither a number nor numbers by name"):
        check_function(lambda one, space: "good")
    with broken("a search needs finite numbers"):
        check_function(lambda one, space: float("nan"))
    with broken("raised ZeroDivisionError"):
        check_function(lambda one, space: 1 / 0)
    with broken("gave .*, and before"):
        check_function(lambda one, space: {f"metric {len(one)}": 1.0})


# --- All of them ------------------------------------------------------------------------------------------------------


def test_nothing_of_it_needs_pytest() -> None:
    for file in (Path(nasdsl.__file__).parent / "testing").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import pytest" not in text and "hypothesis" not in text and "from tests" not in text, file.name
