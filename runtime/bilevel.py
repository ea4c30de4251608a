"""Weights and choices that learn in turn, from two parts of the training samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.measures.measure import sized
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.runtime.choices import Learning
from nasdsl.runtime.chosen import CHOICES
from nasdsl.runtime.data import Batch, Loader
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.errors import Diverged, RunError
from nasdsl.runtime.memory import available
from nasdsl.runtime.pretrained import begin
from nasdsl.runtime.problem import Problem
from nasdsl.runtime.runs import RunFolder
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import loss_of
from nasdsl.runtime.trainer import Trainer, average_gradients
from nasdsl.runtime.watch import Watch


def odds_of(graph: Graph, measures: Iterable[str] = ()) -> Odds:
    """The space with probabilities, which knows MACs, parameters and other measures.

    Raises:
        CompileError: too many of its decisions hang together.
    """
    try:
        return Odds(graph, tuple(dict.fromkeys(["macs", "params", *measures])))
    except TooWide as problem:
        raise error(
            "too-tangled",
            f"the choices cannot be taken one by one: {problem.message}",
            None,
            help="pin some of them with `with { ... }`",
        ) from None


def relaxed(problem: Problem, train: Train, split: float) -> tuple[Relaxed, Trainer, Loader]:
    """The relaxed network of a space, its trainer, and the batches that the choices learn from.

    Args:
        split: the share of the training samples that is theirs.
    """
    data = held_back(problem.data, split)
    torch.manual_seed(problem.seed)
    network = Relaxed(problem.space.graph)
    for line in begin(network, train.init, problem.space):
        problem.watch.note(line)
    trainer = Trainer(network, problem.task, data, train, problem.fabric, problem.seed, problem.workers, in_parts=True)
    return network, trainer, trainer.loader_of(data.val)


class Turns:
    """Hangs the choices of a relaxed network into the trainer of its weights: they learn before its steps.

    A child says what options count for while weights learn (`for_weights`) and while choices do (`for_choices`), and
    what is added to the loss of the choices (`paid`).

    Args:
        choosing: batches that the choices learn from.
        parameters: that they are.

    Attributes:
        history: of the choices, one record a measurement.
    """

    def __init__(
        self, trainer: Trainer, network: Relaxed, learning: Learning, choosing: Loader, parameters: Sequence[Tensor]
    ) -> None:
        self.trainer, self.network, self.learning, self.choosing = trainer, network, learning, choosing
        self.parameters = list(parameters)
        self.weights = list(network.parameters())  # thousands, whose modules would be walked in each step
        self.optimiser = learning.made(self.parameters)
        self.history: list[dict[str, Any]] = []
        self._batches: Iterator[Batch] | None = None
        self._at = -1
        trainer.gradients = self.gradients
        trainer.beside = self

    def for_weights(self) -> Mapping[str, Tensor]:
        raise NotImplementedError

    def for_choices(self) -> Mapping[str, Tensor]:
        raise NotImplementedError

    def paid(self) -> Tensor | None:
        """What is added to the loss of the choices."""
        return None

    def chosen(self) -> None:
        """Called after each step of the choices."""

    # --- A step -------------------------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """Of the training that is over."""
        return self.trainer.step / self.trainer.steps

    @property
    def first(self) -> int:
        """The step of the weights before which the choices learn for the first time."""
        return round(self.learning.after * self.trainer.steps_per_epoch)

    @property
    def share_of_choices(self) -> float:
        """Of the part of the training in which choices learn, what is over."""
        trainer = self.trainer
        return max(0.0, (trainer.step - self.first) / max(1, trainer.steps - self.first))

    def gradients(self, images: Tensor, targets: Any) -> float:
        """A step of the choices where one is due, then the gradients of the weights, and their loss."""
        turn, between = divmod(self.trainer.step - self.first, self.learning.every)
        if turn >= 0 and not between:
            self._choose(turn)
        self.network.relax({path: one.detach() for path, one in self.for_weights().items()})
        try:
            return self.trainer.one_pass(images, targets)
        finally:
            self.network.relax(None)

    def _choose(self, turn: int) -> None:
        trainer = self.trainer
        images, targets = self._batch(turn)
        self.optimiser.zero_grad(set_to_none=True)
        still = [parameter for parameter in self.weights if parameter.requires_grad]
        for parameter in still:  # the gradients of the weights are not worked out
            parameter.requires_grad_(False)
        self.network.relax(self.for_choices())
        try:
            with trainer.autocast():
                loss = loss_of(trainer.task, trainer.model(images, targets), targets)
            paid = self.paid()
            loss = loss if paid is None else loss + paid
            trainer.check_loss(float(loss.detach()), "the loss of its choices")
            if loss.requires_grad:
                trainer.fabric.backward(loss)
        finally:
            self.network.relax(None)
            for parameter in still:
                parameter.requires_grad_(True)
        average_gradients(trainer.fabric, self.parameters)
        self.optimiser.step()
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters):
            raise Diverged(f"its choices are no finite numbers after step {trainer.step + 1:,} of {trainer.steps:,}")
        self.chosen()

    def _batch(self, turn: int) -> Batch:
        """The batch of a turn: the same, wherever the training began."""
        epoch, place = divmod(turn, len(self.choosing))
        if self._batches is None or turn != self._at + 1 or place == 0:
            self._batches = self.choosing.epoch(epoch, place)
        self._at = turn
        return next(self._batches)

    def tell(self, run: RunFolder, row: Mapping[str, Any]) -> None:
        """Adds a record to the history, and writes it where reports look for it."""
        self.history.append(dict(row))
        if self.trainer.fabric.is_global_zero:
            run.write_records(self.records())

    def check_memory(self, watch: Watch) -> None:
        """Tells what a step keeps for its backward pass.

        Raises:
            RunError: that is more than there is.
        """
        need, there = self._kept() * self.trainer.batch, available(self.trainer.fabric.device)
        batch = f"a batch of {self.trainer.batch:,}"
        if need > there:
            raise RunError(
                f"the mixture keeps about {sized(need)} for the backward pass of {batch}, and {sized(there)} are free",
                "take one path at a time (`rule: gumbel`), a smaller `train.batch`, or shorter lists (`search screen`)",
            )
        watch.note(f"the mixture keeps about {sized(need)} for the backward pass of {batch}")

    def _kept(self) -> float:
        """Bytes of an image, from a pass of two. Nothing is changed by it."""
        trainer = self.trainer
        few = Loader(
            trainer.data.train, min(2, trainer.batch), normalise=trainer.task.normalise, device=trainer.fabric.device
        )
        images, targets = next(iter(few.epoch(0)))
        still = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        sizes: dict[int, int] = {}

        def seen(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in still:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        trainer.training()
        self.network.relax(self.for_choices())
        try:
            hooks = torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor)
            with torch.random.fork_rng(devices=[]), trainer.autocast(), hooks:
                loss_of(trainer.task, self.network(images, targets), targets)
        except ValueError as problem:
            raise trainer.of_one_value(problem) from None
        finally:
            self.network.relax(None)
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(buffers[name])
        return sum(sizes.values()) / len(images)

    # --- What stays ---------------------------------------------------------------------------------------------------

    def records(self) -> dict[str, list[dict[str, Any]]]:
        return {CHOICES: self.history}

    def state(self) -> dict[str, Any]:
        return {
            "choices": [parameter.detach() for parameter in self.parameters],
            "optimiser": self.optimiser.state_dict(),
            "history": list(self.history),
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        for own, found in zip(self.parameters, state["choices"], strict=True):
            own.copy_(found)
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = list(state["history"])
