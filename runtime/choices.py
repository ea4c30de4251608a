"""Choices that are trained: a vector of logits for each decision, and the rules by which they weigh options.

The probability of a value is its share in the softmax of the logits; a subset's logit is the sum of those of its items.
A rule turns probabilities into what options count for in a step:

- `softmax` (DARTS paper): the probabilities, all options at once.
- `gumbel` (GDAS paper): one option, drawn with Gumbel noise; its gradient is that of the softmax of the noisy logits at
  a temperature that falls.
- `pair` (ProxylessNAS paper): the logits learn from two options that are drawn by their probabilities, the weights from
  one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from nasdsl.compiler.architecture import is_present
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.gates import values_of
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.values.tree import holds
from nasdsl.runtime.chosen import entropy
from nasdsl.runtime.settings import Optimiser, Settings, amount

TRIES = 32
"""Draws with noise before one that meets all requirements is drawn exactly."""


class Rule(Settings):
    """What options count for in a step.

    Attributes:
        name: `softmax` (DARTS), `gumbel` (GDAS), or `pair` (ProxylessNAS).
        temperature: of `gumbel`, in the first step and in the last; between them it falls evenly.
        noise: of `softmax`: while weights learn, logits have uniform noise of at most so much (SmoothDARTS paper).
    """

    word: ClassVar[str | None] = "name"

    name: Literal["softmax", "gumbel", "pair"] = "softmax"
    temperature: tuple[float, float] = (5.0, 0.1)
    noise: float = Field(default=0.0, ge=0)

    @field_validator("temperature")
    @classmethod
    def _positive(cls, value: tuple[float, float]) -> tuple[float, float]:
        if min(value) <= 0:
            raise ValueError("should be two numbers above 0")
        return value

    @model_validator(mode="after")
    def _belongs(self) -> Rule:
        for field, name in (("temperature", "gumbel"), ("noise", "softmax")):
            if self.name != name and getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"has `{field}`, which is of `{name}`")
        return self

    def temperature_at(self, share: float) -> float:
        """At a share of the training."""
        first, last = self.temperature
        return first + (last - first) * share


DARTS: Mapping[str, Any] = {"name": "adam", "lr": 3e-4, "betas": (0.5, 0.999)}
"""The optimiser of the choices in the DARTS paper."""


class Learning(Settings):
    """`choices: { ... }`: how logits are trained. By default as in the DARTS paper, whose betas Adam keeps where others
    are not given.

    Attributes:
        optimiser: `adam` or `sgd`, with its rate.
        after: epochs in which weights alone are trained, all options counting alike.
        every: steps of the weights between two of the choices.
        weight_decay: L2 on the logits.
    """

    optimiser: Optimiser = Optimiser(**DARTS)
    weight_decay: float = Field(default=1e-3, ge=0)
    after: float = Field(default=0.0, ge=0)
    every: int = Field(default=1, gt=0)

    @field_validator("after", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("optimiser", mode="before")
    @classmethod
    def _like_darts(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        same = isinstance(value, Mapping) and value.get("name", DARTS["name"]) == DARTS["name"]
        return {**DARTS, **value} if same else value

    @field_validator("optimiser")
    @classmethod
    def _known(cls, value: Optimiser) -> Optimiser:
        if value.name not in ("sgd", "adam") or value.lr is None:
            raise ValueError("should be `adam` or `sgd`, with an `lr`")
        return value

    def made(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        o, decay = self.optimiser, self.weight_decay
        assert o.lr is not None
        if o.name == "adam":
            return torch.optim.Adam(parameters, o.lr, betas=o.betas, eps=o.eps, weight_decay=decay)
        return torch.optim.SGD(parameters, o.lr, momentum=o.momentum, nesterov=o.nesterov, weight_decay=decay)


class Choices:
    """The logits of a graph's decisions.

    Attributes:
        logits: by path, one for each option of a choice and each item of a subset.
    """

    def __init__(self, graph: Graph, device: torch.device | str = "cpu") -> None:
        self.graph = graph
        self.values = {path: values_of(decision) for path, decision in graph.decisions.items()}
        self.logits = {
            path: torch.zeros(decision.n, device=device, requires_grad=True)
            for path, decision in graph.decisions.items()
        }
        self._members = {
            path: self._of_subset(path, device)
            for path, decision in graph.decisions.items()
            if decision.kind == "subset"
        }
        self._requirements = [requirement.condition for requirement in structural(graph)]

    def _of_subset(self, path: str, device: torch.device | str) -> Tensor:
        """[values, items] which items a value has."""
        rows = torch.zeros(len(self.values[path]), self.graph.decisions[path].n, device=device)
        for number, value in enumerate(self.values[path]):
            rows[number, list(value)] = 1
        return rows

    def scores(self, path: str, logits: Tensor | None = None) -> Tensor:
        """Of each value of a decision the logit: [values]."""
        own = self.logits[path] if logits is None else logits
        return self._members[path] @ own if path in self._members else own

    def log_probabilities(self) -> dict[str, Tensor]:
        """Of each value of each decision, given that the decision is there: [values]."""
        return {path: self.scores(path).log_softmax(0) for path in self.logits}

    def entropy(self) -> float:
        """The mean over decisions of the entropy, as a share of the greatest that there can be."""
        several = [log_p for log_p in self.log_probabilities().values() if len(log_p) > 1]
        return sum(entropy(log_p.exp().tolist()) for log_p in several) / len(several) if several else 0.0

    # --- Rules --------------------------------------------------------------------------------------------------------

    def weights(self, rule: Rule, key: Sequence[int], share: float, for_choices: bool, odds: Odds) -> dict[str, Tensor]:
        """What every value counts for in a step.

        Args:
            key: of the random numbers.
            share: of the training that is over.
            for_choices: whether the logits are to learn from it, or the weights.
            odds: draws architectures that meet all requirements.
        """
        rng = np.random.default_rng(key)
        if rule.name == "softmax":
            if for_choices or not rule.noise:
                return {path: log_p.exp() for path, log_p in self.log_probabilities().items()}
            return {
                path: self.scores(path, own + _uniform(rng, own, rule.noise)).softmax(0)
                for path, own in self.logits.items()
            }
        if rule.name == "pair" and for_choices:
            return self._pairs(rng, odds)
        log_p = self.log_probabilities()
        noise: dict[str, Tensor] = {}
        for _ in range(TRIES):
            noise = {path: _gumbel(rng, one) for path, one in log_p.items()}
            places = {path: int((one.detach() + noise[path]).argmax()) for path, one in log_p.items()}
            if self._meets(places):
                break
        else:
            noise = {path: torch.zeros_like(one) for path, one in log_p.items()}
            places = self._places(drawn(odds, log_p, rng))
        found = {}
        for path, one in log_p.items():
            hard = torch.zeros_like(one)
            hard[places[path]] = 1
            if for_choices:
                soft = ((one + noise[path]) / rule.temperature_at(share)).softmax(0)
                hard = hard + (soft - soft.detach())  # its value stays exact
            found[path] = hard
        return found

    def _pairs(self, rng: np.random.Generator, odds: Odds) -> dict[str, Tensor]:
        """The shares of two different values each, one of them those of an architecture that meets all requirements, so
        that what is run has an output."""
        log_p = self.log_probabilities()
        first = self._places(drawn(odds, log_p, rng))
        found = {}
        for path, one in log_p.items():
            rest = one.detach().clone()
            rest[first[path]] = -torch.inf
            second = int((rest + _gumbel(rng, one)).argmax())
            both = torch.zeros_like(one, dtype=torch.bool)
            both[[first[path], second]] = True
            found[path] = torch.where(both, one, -torch.inf).softmax(0)
        return found

    def _indices(self, places: Mapping[str, int]) -> dict[str, Any]:
        """The values at some places, of the decisions that are there."""
        values: dict[str, Any] = {}
        for path, decision in self.graph.decisions.items():
            if is_present(decision, values):
                values[path] = self.values[path][places[path]]
        return values

    def _meets(self, places: Mapping[str, int]) -> bool:
        values = self._indices(places)
        return all(holds(condition, values) for condition in self._requirements)

    def _places(self, indices: Mapping[str, Any]) -> dict[str, int]:
        """The places of an architecture's values; of what is absent, the likeliest."""
        return {
            path: values.index(indices[path]) if path in indices else int(self.scores(path).detach().argmax())
            for path, values in self.values.items()
        }

    def likeliest(self) -> dict[str, Any]:
        """Of each decision that is there the likeliest value by itself, whatever requirements and budgets say."""
        return self._indices(self._places({}))

    def parameters(self) -> list[Tensor]:
        return list(self.logits.values())


def drawn(odds: Odds, log_p: Mapping[str, Tensor], rng: np.random.Generator) -> Mapping[str, Any]:
    """The indices of an architecture that meets all requirements, by its probability."""
    rows = odds.draw(1, {path: one.detach() for path, one in log_p.items()}, rng)
    return odds.diagram.encoding.decode(rows)[0].indices


def _gumbel(rng: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(rng.gumbel(size=like.shape)).to(like)


def _uniform(rng: np.random.Generator, like: Tensor, most: float) -> Tensor:
    return torch.from_numpy(rng.uniform(-most, most, size=like.shape)).to(like)
