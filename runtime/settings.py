"""Settings of training and of searches: what may stand in a `search` section, checked with the place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nasdsl.compiler.diagnostics import CompileError, Diagnostic, suggest
from nasdsl.compiler.source import Span


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(Settings):
    """The step rule. `lr` is the peak rate for a batch of `lr_batch`; it is scaled in proportion where `lr_batch` is set."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    lr_batch: int | None = Field(None, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    alpha: float = Field(0.9, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)


class Schedule(Settings):
    """The learning rate over the run, as a factor of its peak."""

    name: Literal["constant", "cosine", "onecycle", "step", "exponential"] = "cosine"
    warmup: float = Field(0, ge=0)  # epochs
    warmup_from: float = Field(0.0, ge=0, le=1)
    final: float = Field(0.0, ge=0, le=1)
    milestones: tuple[float, ...] = ()  # step: epochs at which the rate is multiplied by `decay`
    decay: float = Field(0.1, gt=0, le=1)
    decay_every: float = Field(2.4, gt=0)  # exponential: epochs
    rise: float = Field(0.3, gt=0, lt=1)  # onecycle: share of the run that rises
    start_div: float = Field(25.0, ge=1)
    final_div: float = Field(1e4, ge=1)


class Ema(Settings):
    """Averages of parameters and norm statistics. The HR-NAS code adjusts the decay to the batch and ramps it up."""

    decay: float = Field(0.9999, ge=0, lt=1)
    decay_batch: int | None = Field(4096, gt=0)  # decay ** (batch / decay_batch); None takes it as it is
    ramp: bool = True  # at most (1 + t) / (10 + t) at step t


class Train(Settings):
    """How weights are trained.

    Attributes:
        weight_decay: L2 on matrices and convolutions only, added to the gradient ("loss", as HR-NAS) or decoupled ("optimiser").
        augment: name of one of the task's presets.
        init: "mnas" (normal, fan out) or "torch" (torch's own).
        flip_test: average keypoint maps over the mirrored image at test time.
    """

    preset: str | None = None
    epochs: float = Field(30, gt=0)
    batch: int = Field(64, gt=0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    weight_decay: float = Field(1e-5, ge=0)
    weight_decay_form: Literal["loss", "optimiser"] = "loss"
    clip: float | None = Field(None, gt=0)
    ema: Ema | None = Ema()
    augment: str = "none"
    augment_options: dict[str, Any] = {}
    task: dict[str, Any] = {}
    init: Literal["mnas", "torch"] = "mnas"
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    channels_last: bool = True
    recalibrate: int = Field(10, ge=0)  # batches; 0 leaves the running statistics as they are

    @field_validator("epochs", mode="before")
    @classmethod
    def _epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")


def amount(value: Any, unit: str) -> Any:
    """The number of `5 epochs`; a plain number is taken as it is."""
    if isinstance(value, Mapping) and len(value) == 1:
        (given, number), *_ = value.items()
        if given.rstrip("s") == unit.rstrip("s"):
            return number
        raise ValueError(f"is counted in {unit}, not in {given}")
    return value


T = TypeVar("T", bound=BaseModel)


def read_settings(model: type[T], entries: Mapping[str, Any], spans: Mapping[str, Span], where: str) -> T:
    """The entries of a section as settings.

    Raises:
        CompileError: with every entry that the model does not have or does not allow, at its place in the file.
    """
    try:
        return model.model_validate(dict(entries))
    except ValidationError as problem:
        raise CompileError([_diagnostic(error, model, spans, where) for error in problem.errors()]) from None


def _diagnostic(error: Any, model: type[BaseModel], spans: Mapping[str, Span], where: str) -> Diagnostic:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    span = None
    for n in range(len(path), 0, -1):
        prefix = ".".join(path[:n])
        unknown = error["type"] == "extra_forbidden" and n == len(path)
        span = spans.get(f"{prefix}:key") if unknown else spans.get(prefix)
        if span is not None:
            break
    if error["type"] == "extra_forbidden":
        known = _fields(model, path[:-1])
        return Diagnostic("unknown-setting", f"{where} has no setting `{key}`", span, help=suggest(path[-1], known) or f"it has {', '.join(known)}")
    if error["type"] == "missing":
        return Diagnostic("missing-setting", f"{where} needs `{key}`", span)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Diagnostic("bad-setting", f"`{key}` {message}", span)


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for step in path:
        field = model.model_fields.get(step)
        inner = field.annotation if field is not None else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, record by record."""
    out = dict(base)
    for key, value in over.items():
        inner = out.get(key)
        out[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return out
