"""One Once-for-All-like space in several tools, and the same operations in each: what `benchmarks.rivals` measures.

python rival_tools.py TOOL reads requests and writes answers, one line of JSON each. It runs in an environment that has
the tool and numpy; only `nasdsl` itself needs nasdsl. Each class uses its tool as its documentation does: conditional
decisions where the tool has them, many architectures in one call where it can make them.

The space is Once-for-All's on MobileNetV3 (ICLR 2020): five stages of two to four blocks, each block with a kernel of
3, 5 or 7 and an expansion of 3, 4 or 6. All tools read costs from the same table.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Plain = list[list[tuple[int, int]]]  # of each stage, of each block: kernel and expansion
Ints = NDArray[np.int64]

SPACE = "ofa_mobilenetv3"  # which ships
DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3, 4, 6)
STAGES = (  # channels, stride of the first block, squeeze-excite
    (24, 2, False),
    (40, 2, True),
    (80, 2, False),
    (112, 1, True),
    (160, 2, True),
)
PER_STAGE = [9**depth for depth in DEPTHS]
SLOTS = 4 * len(STAGES)  # places for blocks
PAIRS = [(kernel, expansion) for kernel in KERNELS for expansion in EXPANSIONS]
CODE = {pair: code for code, pair in enumerate(PAIRS)}
GONE = len(PAIRS)  # code of a block that is not there


# --- what an architecture costs ---------------------------------------------------------------------------------------


def divisible(width: float) -> int:
    """The multiple of 8 nearest to a width, but not below nine tenths of it."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def block_cost(inputs: int, out: int, kernel: int, expansion: int, stride: int, se: bool, side: int) -> tuple[int, int]:
    """MACs and parameters of a MobileNetV3 block on a map of `side` x `side` pixels."""
    hidden, after = divisible(inputs * expansion), -(-side // stride)
    macs = side**2 * inputs * hidden + after**2 * hidden * (kernel**2 + out)
    params = hidden * (inputs + 2 + kernel**2 + 2 + out) + 2 * out
    if se:
        squeezed = divisible(hidden / 4)
        macs += 2 * hidden * squeezed
        params += 2 * hidden * squeezed + squeezed + hidden
    return macs, params


def block_table(side: int = 224) -> list[list[tuple[int, int]]]:
    """MACs and parameters [slots][codes]; the last code is the missing block, which costs nothing."""
    rows, inputs, side = [], 16, -(-side // 2)
    for out, stride, se in STAGES:
        for block in range(4):
            if block == 1:
                inputs, side, stride = out, -(-side // stride), 1
            rows.append([*(block_cost(inputs, out, *pair, stride, se, side) for pair in PAIRS), (0, 0)])
    return rows


def fixed_cost(side: int = 224, classes: int = 1000) -> tuple[int, int]:
    """MACs and parameters of what every architecture has: stem, first block and head."""
    half, last = -(-side // 2), -(-side // 32)
    macs = half**2 * (27 * 16 + 9 * 16 + 16 * 16) + last**2 * 160 * 960 + 960 * 1280 + 1280 * classes
    params = (27 + 2) * 16 + (9 + 2) * 16 + (16 + 2) * 16 + (160 + 2) * 960 + 960 * 1280 + 1281 * classes
    return macs, params


FIXED = fixed_cost()
TABLE = block_table()
BY_PAIR = [{pair: row[code] for pair, code in CODE.items()} for row in TABLE]
TABLES = np.array(TABLE, np.int64).reshape(SLOTS * (GONE + 1), 2).T.copy()  # [measures, slots x codes]
FIRST_CODES = np.arange(SLOTS) * (GONE + 1)


def cost_of_plain(stages: Iterable[Iterable[tuple[int, int]]]) -> tuple[int, int]:
    """As one writes it for one architecture."""
    macs, params = FIXED
    for stage, blocks in enumerate(stages):
        for block, pair in enumerate(blocks):
            more = BY_PAIR[4 * stage + block][pair]
            macs += more[0]
            params += more[1]
    return macs, params


def costs_of_codes(codes: NDArray[Any]) -> Ints:
    """As one writes it for many: codes [n, slots] to MACs and parameters [n, 2]."""
    at = codes + FIRST_CODES
    return np.stack([table[at].sum(1) + fixed for table, fixed in zip(TABLES, FIXED, strict=True)], 1)


def whole(numbers: Any) -> Ints:
    """As an array that can index others, also where there are none."""
    return np.asarray(numbers, np.int64)


def plain_of_codes(codes: NDArray[Any]) -> list[Plain]:
    rows = codes.reshape(len(codes), len(STAGES), 4).tolist()
    return [[[PAIRS[code] for code in stage if code != GONE] for stage in row] for row in rows]


def codes_of_plain(plain: Sequence[Plain]) -> NDArray[np.int8]:
    codes = np.full((len(plain), len(STAGES), 4), GONE, np.int8)
    for row, stages in zip(codes, plain, strict=True):
        for stage, blocks in zip(row, stages, strict=True):
            stage[: len(blocks)] = [CODE[pair] for pair in blocks]
    return codes.reshape(len(plain), SLOTS)


# --- the tools --------------------------------------------------------------------------------------------------------


class Tool:
    """The operations. A *batch* is a sequence of architectures in the form in which the tool has them.

    Attributes:
        packages: what has to be imported, by the name of its distribution.
        able: which of `mutate`, `encode` and `decode` it has.
        batch: how many architectures are drawn in one call.
        given: how many are handed to these three in one call.
    """

    packages: ClassVar[Mapping[str, str]] = {}
    able: ClassVar[tuple[str, ...]] = ()
    batch = 1
    given = 16

    def __init__(self, seed: int):
        raise NotImplementedError

    def count(self) -> int | None:
        """The number of architectures that the tool states."""
        return None

    def draw(self, n: int) -> Any:
        """A batch of n random architectures."""
        raise NotImplementedError

    def costs(self, batch: Any) -> Ints:
        """MACs and parameters [n, 2]."""
        return np.array([cost_of_plain(stages) for stages in self.plain(batch)], np.int64)

    def plain(self, batch: Any) -> Sequence[Plain]:
        raise NotImplementedError

    def take(self, batch: Any, rows: Ints) -> Any:
        return [batch[row] for row in rows]

    def within(self, limit: int, n: int) -> Any:
        """What is inside a budget of n random architectures: all of them, or those that happen to be."""
        batch = self.draw(n)
        return self.take(batch, np.flatnonzero(self.costs(batch)[:, 0] <= limit))

    def mutate_within(self, limit: int, batch: Any) -> Any:
        """What is inside a budget of the mutants of a batch."""
        mutants = self.mutate(batch)
        return self.take(mutants, np.flatnonzero(self.costs(mutants)[:, 0] <= limit))

    def mutate(self, batch: Any) -> Any:
        """Each architecture changed a little."""
        raise NotImplementedError

    def encode(self, plain: Sequence[Plain]) -> Any:
        """The batch of plain architectures."""
        raise NotImplementedError

    def decode(self, batch: Any) -> Any:
        """The form that users see: a value, a dictionary, a table."""
        raise NotImplementedError


class PyGlove(Tool):
    """Symbolic values; its type checks are switched off, which makes it a third faster."""

    able = ("mutate", "encode", "decode")
    packages: ClassVar[Mapping[str, str]] = {"pyglove": "pyglove"}

    def __init__(self, seed: int):
        import random

        pg: Any = importlib.import_module("pyglove")
        pg.enable_type_check(False).__enter__()  # as long as the process lives

        def block() -> Any:
            return pg.Dict(kernel=pg.oneof(list(KERNELS)), expansion=pg.oneof(list(EXPANSIONS)))

        def stage() -> Any:
            return pg.oneof([[block() for _ in range(depth)] for depth in DEPTHS])

        self.template = pg.template(pg.List([stage() for _ in STAGES]))
        self.spec = self.template.dna_spec()
        self.random = random.Random(seed)
        self.mutator = pg.evolution.mutators.Uniform(seed=seed)

    def count(self) -> int | None:
        return int(self.spec.space_size)

    def draw(self, n: int) -> Any:
        return [self.spec.random_dna(self.random) for _ in range(n)]

    def plain(self, batch: Any) -> Sequence[Plain]:
        plain = []
        for dna in batch:  # straight from the choices' indices: decoding takes longer than drawing
            stages = []
            for stage in dna.children:
                index = [choice.value for choice in stage.children]
                pairs = zip(index[::2], index[1::2], strict=True)
                stages.append([(KERNELS[k], EXPANSIONS[e]) for k, e in pairs])
            plain.append(stages)
        return plain

    def mutate(self, batch: Any) -> Any:
        return [self.mutator.mutate(dna) for dna in batch]

    def encode(self, plain: Sequence[Plain]) -> Any:
        return [
            self.template.encode([[{"kernel": k, "expansion": e} for k, e in blocks] for blocks in stages])
            for stages in plain
        ]

    def decode(self, batch: Any) -> Any:
        return [self.template.decode(dna) for dna in batch]


class ConfigSpace(Tool):
    """Categorical hyperparameters; the later blocks of a stage are there under a condition on its depth."""

    able = ("mutate", "encode", "decode")
    packages: ClassVar[Mapping[str, str]] = {"ConfigSpace": "ConfigSpace"}
    batch = 10_000

    def __init__(self, seed: int):
        cs: Any = importlib.import_module("ConfigSpace")
        self.neighbour = importlib.import_module("ConfigSpace.util").get_random_neighbor
        self.make = cs.Configuration
        self.space = cs.ConfigurationSpace(seed=seed)
        for i in range(len(STAGES)):
            depth = cs.Categorical(f"stage{i}.depth", list(DEPTHS))
            self.space.add(depth)
            for j in range(4):
                for name, items in (("kernel", KERNELS), ("expansion", EXPANSIONS)):
                    choice = cs.Categorical(f"stage{i}[{j}].{name}", list(items))
                    self.space.add(choice)
                    if j >= DEPTHS[0]:
                        self.space.add(cs.InCondition(choice, depth, [d for d in DEPTHS if d > j]))
        at = {name: i for i, name in enumerate(self.space)}
        slots = [f"stage{i}[{j}]" for i in range(len(STAGES)) for j in range(4)]
        self.kernels = [at[f"{slot}.kernel"] for slot in slots]
        self.expansions = [at[f"{slot}.expansion"] for slot in slots]
        self.seed = seed

    def count(self) -> int | None:
        return int(self.space.estimate_size())

    def draw(self, n: int) -> Any:
        drawn = self.space.sample_configuration(size=n)
        return drawn if n > 1 else [drawn]

    def codes(self, batch: Any) -> NDArray[Any]:
        vectors = np.stack([configuration.get_array() for configuration in batch])  # inactive ones are NaN
        codes = vectors[:, self.kernels] * len(EXPANSIONS) + vectors[:, self.expansions]
        return np.where(np.isnan(codes), GONE, codes).astype(np.int64)

    def costs(self, batch: Any) -> Ints:
        return costs_of_codes(self.codes(batch))

    def plain(self, batch: Any) -> Sequence[Plain]:
        return plain_of_codes(self.codes(batch))

    def mutate(self, batch: Any) -> Any:
        self.seed += len(batch)
        return [self.neighbour(configuration, seed=self.seed + i) for i, configuration in enumerate(batch)]

    def encode(self, plain: Sequence[Plain]) -> Any:
        rows = []
        for stages in plain:
            values: dict[str, int] = {}
            for i, blocks in enumerate(stages):
                values[f"stage{i}.depth"] = len(blocks)
                for j, pair in enumerate(blocks):
                    values[f"stage{i}[{j}].kernel"], values[f"stage{i}[{j}].expansion"] = pair
            rows.append(self.make(self.space, values=values))
        return rows

    def decode(self, batch: Any) -> Any:
        return [dict(configuration) for configuration in batch]


class Optuna(Tool):
    """Defined by running: a trial is asked for, and each choice is suggested in turn."""

    able = ("encode", "decode")
    packages: ClassVar[Mapping[str, str]] = {"optuna": "optuna"}
    batch = 100

    def __init__(self, seed: int):
        self.optuna: Any = importlib.import_module("optuna")
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.seed = seed
        choice = self.optuna.distributions.CategoricalDistribution
        self.distributions = {"depth": choice(DEPTHS), "kernel": choice(KERNELS), "expansion": choice(EXPANSIONS)}

    def draw(self, n: int) -> Any:
        self.seed += 1  # a study for each batch: trials stay in a study's storage
        study = self.optuna.create_study(sampler=self.optuna.samplers.RandomSampler(seed=self.seed))
        drawn = []
        for _ in range(n):
            trial = study.ask()
            drawn.append((trial, [self.suggest_stage(trial, i) for i in range(len(STAGES))]))
        return drawn

    def suggest_stage(self, trial: Any, i: int) -> list[tuple[int, int]]:
        return [
            (
                trial.suggest_categorical(f"stage{i}[{j}].kernel", KERNELS),
                trial.suggest_categorical(f"stage{i}[{j}].expansion", EXPANSIONS),
            )
            for j in range(trial.suggest_categorical(f"stage{i}.depth", DEPTHS))
        ]

    def plain(self, batch: Any) -> Sequence[Plain]:
        return [stages for _, stages in batch]

    def encode(self, plain: Sequence[Plain]) -> Any:
        rows = []
        for stages in plain:
            params: dict[str, int] = {}
            for i, blocks in enumerate(stages):
                params[f"stage{i}.depth"] = len(blocks)
                for j, pair in enumerate(blocks):
                    params[f"stage{i}[{j}].kernel"], params[f"stage{i}[{j}].expansion"] = pair
            kinds = {name: self.distributions[name.rpartition(".")[2]] for name in params}
            trial = self.optuna.trial.create_trial(params=params, distributions=kinds, value=0.0)
            rows.append((trial, stages))
        return rows

    def decode(self, batch: Any) -> Any:
        return [trial.params for trial, _ in batch]


class Nni(Tool):
    """Mutables in a dictionary. They have no conditions: as with its `Repeat`, choices of missing blocks are drawn."""

    packages: ClassVar[Mapping[str, str]] = {"nni": "nni.mutable"}

    def __init__(self, seed: int):
        mutable: Any = importlib.import_module("nni.mutable")
        choices = {f"stage{i}.depth": DEPTHS for i in range(len(STAGES))}
        for i in range(len(STAGES)):
            for j in range(4):
                choices |= {f"stage{i}[{j}].kernel": KERNELS, f"stage{i}[{j}].expansion": EXPANSIONS}
        self.space = mutable.MutableDict(
            {name: mutable.Categorical(list(items), label=name) for name, items in choices.items()}
        )
        self.random = np.random.RandomState(seed)

    def draw(self, n: int) -> Any:
        return [self.space.random(random_state=self.random) for _ in range(n)]

    def plain(self, batch: Any) -> Sequence[Plain]:
        return [
            [
                [(row[f"stage{i}[{j}].kernel"], row[f"stage{i}[{j}].expansion"]) for j in range(row[f"stage{i}.depth"])]
                for i in range(len(STAGES))
            ]
            for row in batch
        ]


class Hyperopt(Tool):
    """Nested choices, drawn for a whole batch by the function that its random search calls."""

    able = ("decode",)
    packages: ClassVar[Mapping[str, str]] = {"hyperopt": "hyperopt"}
    batch = 10_000

    def __init__(self, seed: int):
        hyperopt: Any = importlib.import_module("hyperopt")
        choice = hyperopt.hp.choice
        self.space = [
            choice(
                f"{i}",
                [
                    [
                        (choice(f"{i}.{d}.{j}.kernel", KERNELS), choice(f"{i}.{d}.{j}.expansion", EXPANSIONS))
                        for j in range(d)
                    ]
                    for d in DEPTHS
                ],
            )
            for i in range(len(STAGES))
        ]
        self.domain = importlib.import_module("hyperopt.base").Domain(lambda _: 0.0, self.space)
        self.trials = hyperopt.Trials()
        self.suggest_batch = hyperopt.rand.suggest_batch
        self.evaluate = hyperopt.space_eval
        self.seed = seed

    def draw(self, n: int) -> Any:
        """The rows at which each choice was drawn, and its indices there."""
        self.seed += 1
        return (n, *self.suggest_batch(list(range(n)), self.domain, self.trials, self.seed))

    def codes(self, batch: Any) -> NDArray[Any]:
        n, rows, values = batch
        codes = np.full((n, SLOTS), GONE)
        for i in range(len(STAGES)):
            for d in DEPTHS:
                for j in range(d):
                    name = f"{i}.{d}.{j}"
                    at, kernel = whole(rows[f"{name}.kernel"]), whole(values[f"{name}.kernel"])
                    codes[at, 4 * i + j] = kernel * len(EXPANSIONS) + whole(values[f"{name}.expansion"])
        return codes

    def costs(self, batch: Any) -> Ints:
        return costs_of_codes(self.codes(batch))

    def plain(self, batch: Any) -> Sequence[Plain]:
        return plain_of_codes(self.codes(batch))

    def take(self, batch: Any, rows: Ints) -> Any:
        place = np.full(batch[0], -1)
        place[rows] = np.arange(len(rows))
        kept_rows, kept_values = {}, {}
        for name, index in batch[1].items():
            new = place[whole(index)]
            kept_rows[name], kept_values[name] = new[new >= 0], whole(batch[2][name])[new >= 0]
        return len(rows), kept_rows, kept_values

    def decode(self, batch: Any) -> Any:
        values: list[dict[str, int]] = [{} for _ in range(batch[0])]
        for name, index in batch[1].items():
            for row, value in zip(index, batch[2][name], strict=True):
                values[row][name] = int(value)
        return [self.evaluate(self.space, row) for row in values]


class Nevergrad(Tool):
    """Choices among tuples of choices."""

    able = ("mutate", "encode", "decode")
    packages: ClassVar[Mapping[str, str]] = {"nevergrad": "nevergrad"}

    def __init__(self, seed: int):
        p: Any = importlib.import_module("nevergrad").p

        def block() -> Any:
            return p.Tuple(p.Choice(list(KERNELS)), p.Choice(list(EXPANSIONS)))

        self.space = p.Tuple(
            *(p.Choice([p.Tuple(*(block() for _ in range(depth))) for depth in DEPTHS]) for _ in STAGES)
        )
        self.space.random_state = np.random.RandomState(seed)

    def draw(self, n: int) -> Any:
        return [self.space.sample() for _ in range(n)]

    def plain(self, batch: Any) -> Sequence[Plain]:
        return [[list(blocks) for blocks in parameter.value] for parameter in batch]

    def mutate(self, batch: Any) -> Any:
        mutants = [parameter.spawn_child() for parameter in batch]
        for mutant in mutants:
            mutant.mutate()
        return mutants

    def encode(self, plain: Sequence[Plain]) -> Any:
        return [self.space.spawn_child(new_value=tuple(map(tuple, stages))) for stages in plain]

    def decode(self, batch: Any) -> Any:
        return [parameter.value for parameter in batch]


class Numpy(Tool):
    """By hand, for this space alone: a code for each block, as a careful engineer writes it.

    Depths are drawn with the weights 81, 729 and 6,561, so that all architectures are as likely.
    """

    able: ClassVar[tuple[str, ...]] = ("mutate", "encode", "decode")
    given = 1 << 14
    batch = 1 << 14

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.deeper = np.cumsum(PER_STAGE)[:-1]

    def count(self) -> int | None:
        return sum(PER_STAGE) ** len(STAGES)

    def draw(self, n: int) -> Any:
        at = self.rng.integers(sum(PER_STAGE), size=(n, len(STAGES)), dtype=np.int16)
        depth = DEPTHS[0] + (at[:, :, None] >= self.deeper).sum(-1, dtype=np.int8)
        codes = self.rng.integers(GONE, size=(n, len(STAGES), 4), dtype=np.int8)
        codes[np.arange(4) >= depth[:, :, None]] = GONE
        return codes.reshape(n, SLOTS)

    def costs(self, batch: Any) -> Ints:
        return costs_of_codes(batch)

    def plain(self, batch: Any) -> Sequence[Plain]:
        return plain_of_codes(batch)

    def take(self, batch: Any, rows: Ints) -> Any:
        return batch[rows]

    def mutate(self, batch: Any) -> Any:
        """One decision of each row, any of those present, takes another value."""
        n, every = len(batch), np.arange(len(batch))
        codes = batch.reshape(n, len(STAGES), 4).copy()
        depth = (codes != GONE).sum(2)
        ends = np.cumsum(1 + 2 * depth, 1)
        number = (self.rng.random(n) * ends[:, -1]).astype(np.int64)
        stage = (number[:, None] >= ends).sum(1)
        own = depth[every, stage]
        number -= ends[every, stage] - 1 - 2 * own
        other = self.rng.integers(1, 3, n)  # each decision has three values
        of_depth = number == 0
        rows, at, block = every[~of_depth], stage[~of_depth], (number[~of_depth] - 1) // 2
        first, second = divmod(codes[rows, at, block].astype(np.int64), 3)
        kernel = number[~of_depth] % 2 == 1
        first = np.where(kernel, (first + other[~of_depth]) % 3, first)
        second = np.where(kernel, second, (second + other[~of_depth]) % 3)
        codes[rows, at, block] = 3 * first + second
        rows, at = every[of_depth], stage[of_depth]
        new = DEPTHS[0] + (own[of_depth] - DEPTHS[0] + other[of_depth]) % 3
        place, mine = np.arange(4), codes[rows, at]
        fresh = self.rng.integers(GONE, size=mine.shape, dtype=np.int8)
        mine = np.where(mine == GONE, fresh, mine)
        mine[place >= new[:, None]] = GONE
        codes[rows, at] = mine
        return codes.reshape(n, SLOTS)

    def encode(self, plain: Sequence[Plain]) -> Any:
        return codes_of_plain(plain)

    def decode(self, batch: Any) -> Any:
        return plain_of_codes(batch)


class NumpyStages(Numpy):
    """By hand again, with all 7,371 forms of a stage written out, so that one gather costs a stage."""

    able = ("encode", "decode")

    def __init__(self, seed: int):
        super().__init__(seed)
        forms = np.full((sum(PER_STAGE), 4), GONE, np.int8)
        first = 0
        for depth, number in zip(DEPTHS, PER_STAGE, strict=True):
            forms[first : first + number, :depth] = np.indices((9,) * depth).reshape(depth, -1).T
            first += number
        self.forms = forms
        at = forms + FIRST_CODES.reshape(len(STAGES), 1, 4)
        self.tables = np.stack([table[at].sum(2) for table in TABLES])  # [measures, stages, forms]

    def with_codes(self, forms: NDArray[np.int16]) -> Any:
        """The form of each stage, and the codes of its blocks."""
        return forms, self.forms[forms].reshape(len(forms), SLOTS)

    def draw(self, n: int) -> Any:
        return self.with_codes(self.rng.integers(len(self.forms), size=(n, len(STAGES)), dtype=np.int16))

    def costs(self, batch: Any) -> Ints:
        found = np.empty((len(batch[0]), 2), np.int64)
        for measure, (table, fixed) in enumerate(zip(self.tables, FIXED, strict=True)):
            found[:, measure] = fixed + sum(table[i][batch[0][:, i]] for i in range(len(STAGES)))
        return found

    def take(self, batch: Any, rows: Ints) -> Any:
        return batch[0][rows], batch[1][rows]

    def plain(self, batch: Any) -> Sequence[Plain]:
        return plain_of_codes(batch[1])

    def encode(self, plain: Sequence[Plain]) -> Any:
        codes = codes_of_plain(plain).reshape(len(plain), len(STAGES), 4)
        depth = (codes != GONE).sum(2)
        rank = np.zeros(depth.shape, np.int64)
        for block in range(4):
            rank = np.where(block < depth, 9 * rank + codes[:, :, block], rank)
        return self.with_codes((np.cumsum([0, *PER_STAGE[:-1]])[depth - DEPTHS[0]] + rank).astype(np.int16))

    def decode(self, batch: Any) -> Any:
        return plain_of_codes(batch[1])


class Nasdsl(Tool):
    """The shipped space `ofa_mobilenetv3` as a diagram. A batch is its paths, and their decisions as a matrix."""

    able = ("mutate", "encode", "decode")
    given = 1 << 14
    packages: ClassVar[Mapping[str, str]] = {"nasdsl": "nasdsl.compiler.engine.diagram"}
    batch = 1 << 16

    def __init__(self, seed: int):
        nasdsl: Any = importlib.import_module("nasdsl")
        cost: Any = importlib.import_module("nasdsl.compiler.cost")
        engine = "nasdsl.compiler.engine"
        self.graph = nasdsl.load(SPACE).graph
        total = cost.total_cost(self.graph)
        diagram: Any = importlib.import_module(f"{engine}.diagram").Diagram
        self.diagram = diagram(self.graph, {"macs": total.macs, "params": total.params})
        self.make_sampler: Any = importlib.import_module(f"{engine}.budget").Within
        self.make_variation: Any = importlib.import_module(f"{engine}.variation").Variation
        self.samplers: dict[int, Any] = {}
        self.variations: dict[int | None, Any] = {}
        self.rng = np.random.Generator(np.random.PCG64(seed))
        columns = {path: where.start for path, where in self.diagram.encoding.columns.items()}
        slots = [f"stage{i + 1}[{j}].mbconv" for i in range(len(STAGES)) for j in range(4)]
        self.kernels = [columns[f"{slot}.kernel"] for slot in slots]
        self.expansions = [columns[f"{slot}.expand"] for slot in slots]
        self.depths = [columns[f"stage{i + 1}.depth"] for i in range(len(STAGES))]

    def count(self) -> int | None:
        return int(self.diagram.total)

    def draw(self, n: int) -> Any:
        paths = self.diagram.draw(n, self.rng)
        return paths, self.diagram.matrix(paths)

    def costs(self, batch: Any) -> Ints:
        return np.asarray(self.diagram.costs(batch[0]))

    def sampler(self, limit: int) -> Any:
        """Of architectures inside a budget."""
        if limit not in self.samplers:
            self.samplers[limit] = self.make_sampler(self.diagram, {"macs": (None, limit)})
        return self.samplers[limit]

    def within(self, limit: int, n: int) -> Any:
        paths = self.sampler(limit).draw(n, self.rng)
        batch = paths, self.diagram.matrix(paths)
        self.costs(batch)  # not needed here, but wanted of all tools
        return batch

    def variation(self, limit: int | None) -> Any:
        """Of architectures inside a budget, if there is one."""
        if limit not in self.variations:
            self.variations[limit] = self.make_variation(self.diagram, None if limit is None else self.sampler(limit))
        return self.variations[limit]

    def mutate(self, batch: Any) -> Any:
        paths = self.variation(None).mutate(batch[0], self.rng).paths
        return paths, self.diagram.matrix(paths)

    def mutate_within(self, limit: int, batch: Any) -> Any:
        paths = self.variation(limit).mutate(batch[0], self.rng).paths
        mutants = paths, self.diagram.matrix(paths)
        self.costs(mutants)
        return mutants

    def take(self, batch: Any, rows: Ints) -> Any:
        return tuple(part[rows] for part in batch)

    def plain(self, batch: Any) -> Sequence[Plain]:
        kernels, expansions = batch[1][:, self.kernels], batch[1][:, self.expansions]
        return plain_of_codes(np.where(kernels < 0, GONE, kernels * len(EXPANSIONS) + expansions))

    def encode(self, plain: Sequence[Plain]) -> Any:
        """From the items by path, a list for each decision."""
        table: dict[str, list[int | None]] = {}
        for i in range(len(STAGES)):
            table[f"stage{i + 1}.depth"] = [len(stages[i]) for stages in plain]
            for j in range(4):
                pairs = [stages[i][j] if j < len(stages[i]) else (None, None) for stages in plain]
                for name, items in zip(("kernel", "expand"), zip(*pairs, strict=True), strict=True):
                    table[f"stage{i + 1}[{j}].mbconv.{name}"] = list(items)
        matrix = self.diagram.encoding.from_table(table)
        return self.diagram.find(matrix), matrix

    def decode(self, batch: Any) -> Any:
        return self.diagram.encoding.to_table(batch[1])


TOOLS: dict[str, type[Tool]] = {
    "nasdsl": Nasdsl,
    "numpy": Numpy,
    "numpy-stages": NumpyStages,
    "pyglove": PyGlove,
    "configspace": ConfigSpace,
    "optuna": Optuna,
    "nni": Nni,
    "hyperopt": Hyperopt,
    "nevergrad": Nevergrad,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def size_of(batch: Any) -> int:
    """How many architectures a batch holds: some start with their number, arrays may come as a tuple."""
    first = batch[0] if isinstance(batch, tuple) else batch
    return first if isinstance(first, int) else len(first)


class Worker:
    """Answers the requests about one tool.

    A rate is what was made by the processor's time in this process; batches are made until `seconds` of it are over.
    """

    def __init__(self, name: str, seed: int = 0):
        self.kind, self.seed, start = TOOLS[name], seed, time.process_time()
        for module in self.kind.packages.values():
            importlib.import_module(module)
        self.import_seconds = time.process_time() - start
        self.tool = self.kind(seed)
        self.parents: dict[int | None, Any] = {}

    def about(self) -> dict[str, Any]:
        """What is known of the tool before anything is measured."""
        return {
            "versions": {name: version_of(name) for name in self.kind.packages},
            "numpy": np.__version__,
            "import": self.import_seconds,
            "count": self.tool.count(),
            "able": self.kind.able,
            "peak": peak(),
        }

    def build(self, times: int) -> list[float]:
        """Seconds to make the space, each time anew."""
        taken = []
        for _ in range(times):
            start = time.process_time()
            self.kind(self.seed)
            taken.append(time.process_time() - start)
        return taken

    def prepare(self, limit: int) -> float:
        """Seconds from nothing to the first architectures inside a budget."""
        start = time.process_time()
        self.kind(self.seed).within(limit, self.tool.batch)
        return time.process_time() - start

    def rate(self, operation: str, seconds: float, limit: int | None = None) -> dict[str, float]:
        """How many architectures an operation tried and made in how much time; inside a budget where there is one."""
        tool, n = self.tool, self.tool.batch
        given: Any = None
        if operation in ("mutate", "encode", "decode"):
            n, given = tool.given, self.parents_of(limit)
            given = tool.plain(given) if operation == "encode" else given
        self.once(operation, n, limit, given)  # tables that are made once, and for a budget, are told by `prepare`
        made = tried = 0
        spent = 0.0
        while spent < seconds:
            start = time.process_time()
            batch = self.once(operation, n, limit, given)
            spent += time.process_time() - start
            made += n if operation == "decode" else size_of(batch)
            tried += n
        return {"made": made, "tried": tried, "seconds": spent}

    def once(self, operation: str, n: int, limit: int | None, given: Any) -> Any:
        tool = self.tool
        if operation == "draw":
            return tool.draw(n)
        if operation == "cost":
            batch = tool.draw(n)
            tool.costs(batch)
            return batch
        if operation == "within":
            return tool.within(limit or 0, n)
        if operation == "mutate":
            return tool.mutate(given) if limit is None else tool.mutate_within(limit, given)
        return {"encode": tool.encode, "decode": tool.decode}[operation](given)

    def parents_of(self, limit: int | None) -> Any:
        """A batch, drawn once; inside the budget where there is one."""
        if limit not in self.parents:
            n = max(self.tool.given, self.tool.batch)
            batch = self.tool.draw(n) if limit is None else self.tool.within(limit, n)
            while not (have := size_of(batch)):
                batch = self.tool.within(limit or 0, n)
            self.parents[limit] = self.tool.take(batch, np.arange(self.tool.given) % have)
        return self.parents[limit]

    def check(self, n: int, limits: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Some architectures that each operation made, with the costs that the tool found for them."""
        tool = self.tool
        drawn = tool.draw(n)
        found = {"draw": drawn}
        found |= {f"within {i}": tool.within(limit, n) for i, limit in enumerate(limits)}
        if "mutate" in tool.able:
            found["mutate"] = tool.mutate(drawn)
            for i, limit in enumerate(limits[:1]):
                found[f"mutate within {i}"] = tool.mutate_within(limit, self.parents_of(limit))
        if "encode" in tool.able:
            found["encode"] = tool.encode(tool.plain(drawn))
        return {
            name: {"plain": tool.plain(batch)[:n], "costs": tool.costs(batch)[:n].tolist()}
            for name, batch in found.items()
            if size_of(batch)
        }

    def deep(self, n: int, limit: int | None = None) -> float:
        """How often a stage has four blocks in n drawn architectures, or in n that were drawn for a budget."""
        found: list[Plain] = []
        while len(found) < n:
            found += self.tool.plain(self.tool.draw(n) if limit is None else self.tool.within(limit, self.tool.batch))
        stages = [stage for plain in found[:n] for stage in plain]
        return sum(len(stage) == DEPTHS[-1] for stage in stages) / len(stages)

    def memory(self, n: int, limit: int | None = None) -> int:
        """Bytes at the peak of this process after n architectures were drawn and costed, batch by batch."""
        for _ in range(-(-n // self.tool.batch)):
            self.once("cost" if limit is None else "within", self.tool.batch, limit, None)
        return peak()

    def answer(self, request: Mapping[str, Any]) -> Any:
        request = dict(request)
        return getattr(self, request.pop("do"))(**request)


def version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    try:  # unlike getrusage's figure, this one does not begin with that of the process that started this one
        with open("/proc/self/status", encoding="ascii") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # some tools print
    worker: Worker | None = None
    for line in sys.stdin:
        try:
            worker = worker or Worker(sys.argv[1])
            answer = {"value": worker.answer(json.loads(line))}
        except Exception as problem:  # whatever goes wrong inside a tool is its result
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
