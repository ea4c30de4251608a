"""Architectures scored with the weights that they inherit from a trained supernet."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric
from pydantic import BaseModel

from nasdsl.compiler.architecture import Values
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import load_weights
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.problem import Problem
from nasdsl.runtime.runs import ABOUT, About
from nasdsl.runtime.settings import Train
from nasdsl.runtime.stored import checked, read_stored
from nasdsl.runtime.tasks import Task, find_task
from nasdsl.runtime.trainer import Trainer

SUPERNET = "supernet.safetensors"
"""The trained weights in the folder of a run."""


class Trained(BaseModel):
    """What of the settings of `search sample` speaks of its supernet."""

    train: Train
    hold_back: float


class Inherited:
    """Scores architectures with the weights of one supernet: set to the architecture, norm statistics estimated anew on
    training images, measured on the held-back samples.

    Scoring one leaves nothing behind for the next: the same architecture has the same score whenever it is asked for.
    """

    def __init__(self, trainer: Trainer, recalibrate: int):
        """
        Args:
            trainer: its network has the weights, its validation split is what is measured on.
            recalibrate: batches for the norm statistics; 0 takes those of training as they are.
        """
        self.trainer, self.recalibrate = trainer, recalibrate

    def evaluate(self, architecture: Values) -> dict[str, float]:
        """The task's metrics and the mean loss (`loss`) of an architecture of the space."""
        network = self.trainer.network
        network.activate(architecture)
        if self.recalibrate:
            self.trainer.recalibrate(self.recalibrate)
        return self.trainer.measure()

    @classmethod
    def load(cls, run: Path, problem: Problem) -> Inherited:
        """The weights that `search sample` left in a run's folder, for the same space and data.

        Raises:
            RunError: the folder has none, or those of another space.
        """
        return load(run, problem.space, problem.task, problem.data, problem.fabric, problem.workers)


def load(run: Path, space: Space, task: Task, data: DataSplits, fabric: Fabric, workers: int = 0) -> Inherited:
    """As `Inherited.load`, from the parts of a problem.

    Args:
        data: all of it: what the training of the supernet held back is held back here.
    """
    network, about = load_supernet(run, space)
    settings = checked(Trained, about.settings, f"{run / ABOUT}: `settings`", "of `search sample`")
    train = settings.train.model_copy(update={"ema": None})
    task = find_task(task.name).from_data(data, **train.task)
    kept = held_back(data, settings.hold_back)
    trainer = Trainer(network, task, kept, train, fabric, about.seed, workers, in_parts=True)
    return Inherited(trainer, train.recalibrate)


def load_supernet(run: Path, space: Space) -> tuple[Supernet, About]:
    """The supernet of a run, and what the run was started with.

    Raises:
        RunError: the folder has none, or one of another space.
    """
    if not (run / ABOUT).is_file():
        raise RunError(f"{run} holds no run", "name the folder of a `search sample`")
    about = read_stored(About, run / ABOUT, "what a run was started with")
    if about.search != "sample":
        raise RunError(f"{run} holds no run of `search sample`", "only that leaves a supernet behind")
    if not (run / SUPERNET).exists():
        raise RunError(f"the supernet in {run} is not trained to its end", "go on with the search that trains it")
    tensors, _ = load_weights(run / SUPERNET)
    network = Supernet(space.graph if space.whole is None else space.whole)
    wanted = network.state_dict()
    wrong = [n for n in wanted if n not in tensors or tensors[n].shape != wanted[n].shape]
    wrong += [n for n in tensors if n not in wanted]
    if wrong:
        raise RunError(f"the supernet in {run} is that of another space: `{wrong[0]}` differs")
    network.load_state_dict(tensors)
    return network, about
