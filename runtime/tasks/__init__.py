"""Tasks: what a network is trained for, with loss, standard metric, augmentation and normalisation."""

from typing import Any

from nasdsl.runtime.data.plugins import with_entry_points
from nasdsl.runtime.tasks.classification import Classification
from nasdsl.runtime.tasks.detection import Detection
from nasdsl.runtime.tasks.keypoints import Keypoints
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.regression import Regression
from nasdsl.runtime.tasks.segmentation import Segmentation
from nasdsl.runtime.tasks.task import Augmentation, Metric, OneTensor, Task, TaskError, loss_of, loss_of_sides

__all__ = [
    "Augmentation",
    "Classification",
    "Detection",
    "Keypoints",
    "Metric",
    "Normalise",
    "OneTensor",
    "Regression",
    "Segmentation",
    "Task",
    "TaskError",
    "find_task",
    "find_tasks",
    "loss_of",
    "loss_of_sides",
]

TASKS: tuple[type[Task], ...] = (Classification, Segmentation, Keypoints, Detection, Regression)


def find_tasks() -> dict[str, type[Task]]:
    """The built-in tasks and those that installed packages offer in the entry-point group `nasdsl.tasks`.

    Raises:
        PluginError: a name is taken twice or an entry point is not a class with the members of `Task`.
    """
    return with_entry_points("nasdsl.tasks", {task.name: task for task in TASKS}, _is_task)


def find_task(name: str) -> type[Task]:
    """The task called `name`.

    Raises:
        TaskError: there is none.
        PluginError: as `find_tasks`.
    """
    from nasdsl.runtime.data.errors import did_you_mean

    tasks = find_tasks()
    if name not in tasks:
        raise TaskError(f'there is no task "{name}"', did_you_mean(name, tasks) or "there are " + ", ".join(tasks))
    return tasks[name]


def _is_task(value: Any) -> bool:
    members = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    fields = getattr(value, "__dataclass_fields__", {})  # some have no default, and so are no attributes of the class
    return isinstance(value, type) and all(hasattr(value, member) or member in fields for member in members)
