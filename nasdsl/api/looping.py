"""What a training loop of one's own needs beside a supernet: architectures for each step, and norms that fit one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from nasdsl.api.given import SpaceLike, limits_of, space_like
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.runtime.norms import estimate
from nasdsl.runtime.sampling import Rule, Sampler
from nasdsl.runtime.settings import read_settings

Network = TypeVar("Network", bound=nn.Module)


class Draws:
    """The architectures of each step of a training; `nasdsl.draws` makes one. Those of a step hang on the seed and its
    number alone, so that a run that was killed goes on with those that it would have had.
    """

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self._sampler, self.seed = sampler, seed

    def __call__(self, step: int) -> list[Architecture]:
        """Those of a step; of a sandwich the largest first, the smallest last."""
        return [one.architecture for one in self._sampler.architectures(self.seed, step)]

    def __iter__(self) -> Iterator[list[Architecture]]:
        """Those of step 0, 1, ... without an end."""
        return map(self, itertools.count())

    def __repr__(self) -> str:
        told = self._sampler.rule.model_dump(exclude_none=True, exclude_defaults=True)
        return f"Draws({', '.join(f'{name} {value}' for name, value in told.items())}, seed {self.seed})"


def draws(space: SpaceLike, rule: str = "sandwich", *, seed: int = 0, **settings: Any) -> Draws:
    """The architectures that each step of a training of a supernet runs.

        supernet, draws = nasdsl.supernet(space), nasdsl.draws(space, "sandwich", random=2)
        for step, (images, labels) in enumerate(loader):
            for architecture in draws(step):
                supernet.activate(architecture)
                loss(supernet(images), labels).backward()
            optimiser.step()
            optimiser.zero_grad()

    Args:
        rule: as in `search sample { rule: ... }`: `sandwich`, the largest, the smallest and some between; `uniform`,
            each architecture as likely as any other; `hierarchical`, decision by decision; `fair`, each option of a
            choice as often as the others; `budget`, inside `at_most` and `at_least`.
        seed: of all draws.
        settings: of the rule: `architectures` in a step; of a sandwich `smallest`, `largest`, `random`; of a budget
            `at_most="macs <= 4M"`.

    Raises:
        CompileError: there is no such rule, it has no such setting, or it cannot be followed in this space.
    """
    limits: dict[str, Any] = {name: limits_of(settings[name]) for name in ("at_most", "at_least") if name in settings}
    found = read_settings(Rule, {"name": rule, **settings, **limits}, {}, f"`{rule}`")
    return Draws(Sampler(space_like(space).graph, found), seed)


def recalibrate(network: Network, batches: Iterable[Any], most: int = 10) -> Network:
    """Estimates the statistics of a network's batch norms anew. What training leaves in a supernet is of all its
    architectures together; one of them is measured, or taken out, with its own.

        supernet.activate(architecture)
        nasdsl.recalibrate(supernet, loader)

    Args:
        network: in which all else stays as it is; it is in evaluation mode afterwards.
        batches: images (B C H W), or tuples that begin with them, such as a loader gives.
        most: of them.

    Returns:
        the network.

    Raises:
        ArgumentError: there is no batch.
    """
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    images = (one[0] if isinstance(one, tuple | list) else one for one in itertools.islice(batches, most))
    if not estimate(network, (one.to(device) for one in images)):
        raise ArgumentError("there is no batch to estimate statistics from")
    return network
