"""The training loop: one network, one task, one data set. Searches hang their own work into it.

Every random number of a step follows from (seed, step), so that a killed and resumed run ends as one that was not.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from torch import Tensor, nn

from nasdsl.compiler.stored import fault
from nasdsl.compiler.supernet import Supernet, Surgery
from nasdsl.runtime.checkpoint import State
from nasdsl.runtime.data import DataSplits, Loader, Samples
from nasdsl.runtime.errors import Diverged, RunError
from nasdsl.runtime.norms import estimating
from nasdsl.runtime.optim import (
    STATISTICS,
    Average,
    cycled_momentum,
    decayed,
    follow,
    load_optimiser_state,
    make_optimiser,
    optimiser_state,
    parameters_of,
    peak_rate,
    rate,
    set_rate,
)
from nasdsl.runtime.parts import frozen_layers
from nasdsl.runtime.settings import Train
from nasdsl.runtime.settle import settle
from nasdsl.runtime.stored import OTHER
from nasdsl.runtime.tasks import Task, loss_of


class Beside(Protocol):
    """What learns beside a network. Its state is tensors, numbers, texts, and containers of these."""

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...

    def records(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What it has measured, by the name of the file in the run's folder."""


class Trainer:
    """Trains a network that may lose weights on the way.

    Attributes:
        step: optimiser steps done; `epoch` is the number of whole epochs they make.
        rows: what was measured, one record an epoch.
        frozen: the modules that are not trained.
        gradients: adds to the parameters' gradients what a batch (images B C H W, targets) asks for, and gives its
            loss. By default one pass of the network; whoever trains several parts of it in a step puts its own here.
        decay: adds weight decay to the gradients where it is part of the loss, given its weight.
        on_gradients: called after the backward pass, before the optimiser's step.
        beside: what learns beside the network, whose state is part of the trainer's.
    """

    def __init__(
        self,
        network: Supernet,
        task: Task,
        data: DataSplits,
        settings: Train,
        fabric: Fabric,
        seed: int = 0,
        workers: int = 0,
        in_parts: bool = False,
    ):
        """
        Args:
            in_parts: a step runs parts of the network, the same in all processes. Their gradients are then averaged
                once, after all passes of a step, and those of what was not run neither exist nor are sent.
        """
        self.network, self.task, self.data = network, task, data
        if hasattr(task, "prepare"):
            task.prepare(network)
        self.settings = settings = settle(settings, len(data.train))
        self.fabric, self.seed = fabric, seed
        size = data.size
        share: dict[str, Any] = {"rank": fabric.global_rank, "world": fabric.world_size, "device": fabric.device}
        self._share = share = {**share, "workers": workers}
        self.batch = max(1, settings.batch // fabric.world_size)
        if data.normalised is not None and settings.augment not in ("none", "flip"):
            raise RunError(
                f"the augmentation `{settings.augment}` paints with colours, and the images are normalised already",
                "give images as pixels, or augment them in the set and say `augment: none`",
            )
        self._augment = task.augment(
            settings.augment, size if settings.augment not in ("none", "flip") else None, **settings.augment_options
        )
        self.loader = self.loader_of(data.train)
        self.val_loader = self._measuring(data.val)
        self.steps_per_epoch = len(self.loader)
        self.steps = max(1, round(settings.epochs * self.steps_per_epoch))
        self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.gradients: Callable[[torch.Tensor, Any], float] = self.one_pass
        self.decay: Callable[[float], None] = self._decay_in_loss
        self.on_gradients: Callable[[Trainer], None] | None = None
        self.beside: Beside | None = None
        self._in_parts = in_parts
        self._format = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.network.to(fabric.device)
        self.network.to(memory_format=self._format)  # type: ignore[call-overload]
        self._freeze()
        self.optimiser = make_optimiser(network, settings)
        self.average = Average(network, settings.ema, settings.batch) if settings.ema is not None else None
        self._wrap()
        self._check_smallest_batch()

    def _check_smallest_batch(self) -> None:
        """A norm over a batch has nothing to go by where a channel has one value in it: one image, and a vector or a
        map of 1 x 1. A pass of one image tells, before anything is trained; nothing is changed by it.

        Raises:
            RunError: there are fewer images than processes, or a process has batches of one image that a norm of the
                network cannot take.
        """
        images, world = len(self.data.train), self.fabric.world_size
        smallest = self.batch if self.loader.drop_last else images // world
        if smallest == 0:
            raise RunError(
                f"{images:,} training images are not enough for {world:,} processes", "start fewer processes"
            )
        if smallest > 1:
            return
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        one = Loader(self.data.train, 1, normalise=self.task.normalise, device=self.fabric.device)
        (x_1CHW, targets), *_ = one.epoch(0)
        self.training()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), self.autocast():
                self.network(x_1CHW, targets)
        except ValueError as problem:
            raise self.of_one_value(problem) from None
        finally:
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(buffers[name])

    def of_one_value(self, problem: ValueError) -> Exception:
        """In the user's words, where torch has refused to normalise one value."""
        if "more than 1 value per channel" not in str(problem):
            return problem
        images = len(self.data.train)
        why = "the batch is one image" if images > 1 else "one image is left to train on"
        return RunError(
            f"a norm over the batch gets one value of each channel, of which there is no variance: {why}",
            "take a `batch` of 2 or more, or `norm: group`" if images > 1 else "take more images, or `norm: group`",
        )

    def loader_of(self, samples: Samples) -> Loader:
        """Batches to learn from: shuffled, augmented, without a rest where there is a whole batch."""
        return Loader(
            samples,
            self.batch,
            seed=self.seed,
            shuffle=True,
            drop_last=len(samples) >= self.batch * self.fabric.world_size,
            augment=self._augment,
            normalise=self.task.normalise,
            **self._share,
        )

    def _measuring(self, samples: Samples) -> Loader:
        return Loader(samples, self.batch, normalise=self.task.normalise, **self._share)

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch

    def _freeze(self) -> None:
        """Takes frozen parts out of training; needed after the network has lost weights, which makes new modules.

        Raises:
            RunError: nothing is left to train, or weights are shared with a part that is not frozen.
        """
        self.frozen = frozen_layers(self.network, self.settings.freeze)
        for module in self.frozen:
            module.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise RunError("`freeze` leaves nothing to train", "name fewer parts")
        self.network.eval()  # so that `training` sets the modes anew

    def training(self) -> None:
        """The network in training, but for what is frozen."""
        if self.network.training:  # of all modules at once: a supernet has thousands, and a step many
            return
        self.network.train()
        for module in self.frozen:
            module.eval()

    def _wrap(self) -> None:
        """(Re)builds what Fabric puts around network and optimiser; needed after the network has lost weights."""
        if self.fabric.world_size == 1 or self._in_parts:
            self.model: nn.Module = self.network
            return
        # The old wrapper goes first: while it lives, its hooks would average gradients too.
        self.model = self.network
        gc.collect()
        self.model = self.fabric.setup_module(self.network)

    # --- Training -----------------------------------------------------------------------------------------------------

    def fit(self, until: int | None = None, on_step: Callable[[Trainer, float], None] | None = None) -> None:
        """Trains up to step `until` (all by default).

        Args:
            on_step: called after each step with its loss.
        """
        stop = self.steps if until is None else min(until, self.steps)
        while self.step < stop:
            epoch, start = divmod(self.step, self.steps_per_epoch)
            for images, targets in self.loader.epoch(epoch, start):
                loss = self.train_step(images, targets)
                if on_step is not None:
                    on_step(self, loss)
                if self.step >= stop:
                    return

    def train_step(self, images: torch.Tensor, targets: Any) -> float:
        """One step on one batch (B C H W); the loss of the task.

        Raises:
            Diverged: the loss is no finite number. The weights are then as they were before the step.
        """
        settings = self.settings
        torch.manual_seed((self.seed << 32) + (self.step << 8) + self.fabric.global_rank)
        self.training()
        factor = rate(settings.schedule, self.step, self.steps, self.steps_per_epoch)
        momentum = cycled_momentum(settings.schedule, self.step, self.steps)
        set_rate(self.optimiser, peak_rate(settings) * factor, momentum)
        self.optimiser.zero_grad(set_to_none=True)
        try:
            loss = self.gradients(images.contiguous(memory_format=self._format), targets)
        except ValueError as problem:
            raise self.of_one_value(problem) from None
        self.check_loss(loss)
        if self._in_parts:
            self._average_gradients()
        if settings.weight_decay and settings.weight_decay_form == "loss":
            self.decay(settings.weight_decay)
        if self.on_gradients is not None:
            self.on_gradients(self)
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(parameters_of(self.optimiser), settings.clip)
        self.optimiser.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.network)
        return loss

    def one_pass(self, images: torch.Tensor, targets: Any) -> float:
        """The gradients of the task's loss for the network as it is, and the loss."""
        with self.autocast():
            loss = loss_of(self.task, self.model(images, targets), targets)
        self.fabric.backward(loss)
        return float(loss.detach())

    def check_loss(self, loss: float, whose: str = "its loss") -> None:
        """All processes learn of a loss that is no number in one of them, so that all end for the same reason.

        Raises:
            Diverged: it is none.
        """
        if self.fabric.world_size > 1:
            values = self.fabric.all_gather(torch.tensor(loss, dtype=torch.float64))
            loss = next((one for one in values.tolist() if not math.isfinite(one)), loss)  # type: ignore[union-attr]
        if not math.isfinite(loss):
            raise Diverged(f"{whose} is {loss} at step {self.step + 1:,} of {self.steps:,}")

    def check_weights(self) -> None:
        """A step may break weights that only a later loss would show, or none that is ever worked out.

        Raises:
            Diverged: a weight, a norm's statistic or an average is no finite number.
        """
        averages = {} if self.average is None else self.average.values
        for name, tensor in (*self.network.state_dict().items(), *averages.items()):
            if not bool(tensor.isfinite().all()):
                raise Diverged(f"`{name}` holds what is no finite number after step {self.step:,} of {self.steps:,}")

    def _average_gradients(self) -> None:
        """The mean over all processes of the gradients that there are."""
        average_gradients(self.fabric, parameters_of(self.optimiser))

    def autocast(self) -> Any:
        return self.fabric.autocast()

    @torch.no_grad()
    def _decay_in_loss(self, weight: float) -> None:
        """The gradient of 0.5 * weight * sum of squares, as if it stood in the loss."""
        members = [p for n, p in self.network.named_parameters() if decayed(n, p) and p.grad is not None]
        torch._foreach_add_([p.grad for p in members if p.grad is not None], [p.data for p in members], alpha=weight)

    def shrink(self, kept: dict[str, tuple[int, ...]]) -> Surgery:
        """Removes search units from the network, the optimiser and the averages in one go."""
        before = dict(self.network.named_parameters())
        surgery = self.network.shrink(kept)
        self.network.to(memory_format=self._format)  # type: ignore[call-overload]
        self._freeze()
        follow(self.optimiser, before, self.network, surgery)
        if self.average is not None:
            self.average.follow(surgery)
        self._wrap()
        return surgery

    # --- Measuring ----------------------------------------------------------------------------------------------------

    @contextmanager
    def averaged(self, recalibrate: int) -> Iterator[Supernet]:
        """The network with its averaged weights and recalibrated norm statistics; afterwards all is as it was."""
        if self.average is not None:
            self.average.swap(self.network)
        # What recalibration changes is put back before the second swap: it belongs neither to network nor averages.
        buffers = {name: b.detach().clone() for name, b in self.network.named_buffers()}
        try:
            if recalibrate:
                self.recalibrate(recalibrate)
            else:
                self._agree()
            yield self.network
        finally:
            with torch.no_grad():
                for name, b in self.network.named_buffers():
                    b.copy_(buffers[name])
            if self.average is not None:
                self.average.swap(self.network)

    @torch.no_grad()
    def _agree(self) -> None:
        """The first process's norm statistics, which are those of its checkpoints, in all processes."""
        if self.fabric.world_size > 1:
            for name, b in self.network.named_buffers():
                if name.endswith(STATISTICS):
                    b.copy_(self.fabric.broadcast(b.cpu()))

    @torch.no_grad()
    def recalibrate(self, batches: int) -> None:
        """Estimates norm statistics anew: a plain mean over training batches, with all else in evaluation mode. Those
        of frozen parts stay."""
        plain = Loader(
            self.data.train,
            self.batch,
            seed=self.seed + 1,
            shuffle=True,
            drop_last=self.loader.drop_last,  # a rest of one image has no variance
            normalise=self.task.normalise,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            device=self.fabric.device,
        )
        still = {part for module in self.frozen for part in module.modules()}
        with estimating(self.network, still) as norms:
            for images, targets in itertools.islice(plain.epoch(0), batches):
                with self.autocast():
                    self.network(images.contiguous(memory_format=self._format), targets)
        if self.fabric.world_size > 1:
            for norm in norms:
                for statistic in (norm.running_mean, norm.running_var):
                    if isinstance(statistic, Tensor):
                        statistic.copy_(self.fabric.all_reduce(statistic.clone(), reduce_op="mean"))  # type: ignore[arg-type]

    @torch.no_grad()
    def measure(self, samples: Samples | None = None) -> dict[str, float]:
        """The task's metric, and the mean loss where the task has one in evaluation, on the validation split, or other
        samples, with the network as it is."""
        self.network.eval()
        metric = self.task.metric(self.fabric.device)
        total, count = 0.0, 0
        loader = self.val_loader if samples is None else self._measuring(samples)
        for images, targets in loader.epoch(0):
            with self.autocast():
                outputs = self.task.infer(self.network, images.contiguous(memory_format=self._format), targets)
                loss = self.task.validation_loss(outputs, targets)
            metric.update(in_single(outputs), targets)
            if loss is not None:
                total, count = total + float(loss) * len(images), count + len(images)
        if self.fabric.world_size > 1:
            sums = self.fabric.all_reduce(torch.tensor([total, count], dtype=torch.float64), reduce_op="sum")
            total, count = float(sums[0]), int(sums[1])
        return {**metric.compute(), "loss": total / count} if count else metric.compute()

    def evaluate(self) -> dict[str, float]:
        """The metric with averaged weights and recalibrated statistics.

        Raises:
            Diverged: the loss on the validation split is no finite number.
        """
        with self.averaged(self.settings.recalibrate):
            return finite(self.measure())

    # --- State --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that is needed to go on exactly here."""
        return {
            "step": self.step,
            "kept": {path: list(units) for path, units in self.network.kept.items()},
            "network": {name: t.detach() for name, t in self.network.state_dict().items()},
            "optimiser": optimiser_state(self.optimiser, self.network),
            "average": None
            if self.average is None
            else {"values": dict(self.average.values), "steps": self.average.steps},
            "rows": list(self.rows),
            "beside": {} if self.beside is None else self.beside.state(),
            "time": time.time(),
        }

    def load(self, found: Mapping[str, Any]) -> None:
        """Goes back to where `state` was taken.

        Raises:
            RunError: it is no state, or that of another network; the message goes on after the file's name.
        """
        try:
            state = State.model_validate(found)
        except ValidationError as problem:
            raise RunError(f"is no checkpoint: {fault(problem)}", OTHER) from None
        units = {path: d for path, d in self.network.graph.decisions.items() if d.kind == "units"}
        for path, kept in state.kept.items():
            if path not in units or sorted(set(kept) & set(range(units[path].n))) != kept:
                raise RunError(f"is that of another network: `{path}` has no such units")
        if state.kept:
            self.shrink({path: tuple(kept) for path, kept in state.kept.items()})
        _same(state.network, self.network.state_dict())
        parameters = dict(self.network.named_parameters())
        for name, moments in state.optimiser.items():
            if name not in parameters:
                raise RunError(f"is that of another network: its optimiser knows `{name}`")
            for moment in moments.values():
                if isinstance(moment, Tensor) and moment.shape not in ((), parameters[name].shape):
                    raise RunError(f"is that of another network: the optimiser's `{name}` differs")
        if self.average is not None and state.average is not None:
            _same(state.average.values, self.average.values)
            self.average.values = {
                name: t.to(self.fabric.device, copy=True) for name, t in state.average.values.items()
            }
            self.average.steps = state.average.steps
        self.network.load_state_dict(state.network)
        load_optimiser_state(self.optimiser, self.network, state.optimiser)
        if self.beside is not None:
            self.beside.load(state.beside)
        self.step, self.rows = state.step, list(state.rows)


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """What was measured on the validation split. Not every task has a loss in evaluation.

    Raises:
        Diverged: the loss is no finite number.
    """
    if not math.isfinite(metrics.get("loss", 0.0)):
        raise Diverged(f"its loss on the validation split is {metrics['loss']}")
    return metrics


@torch.no_grad()
def average_gradients(fabric: Fabric, parameters: Iterable[Tensor]) -> None:
    """The mean over all processes of the gradients that there are, which are those of the same parameters in each."""
    if fabric.world_size == 1:
        return
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return
    flat = torch.cat([grad.flatten() for grad in grads])
    mean: Tensor = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    for grad, part in zip(grads, torch.split(mean, [grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def in_single(outputs: Any) -> Any:
    """Outputs of a network in float32, where they are in half precision."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    return {name: in_single(tensor) for name, tensor in outputs.items()}


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises a RunError where names or shapes differ."""
    for name in [*wanted, *found]:
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape:
            raise RunError(f"is that of another network: `{name}` differs")
