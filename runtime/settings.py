"""Settings of training and of searches: what may stand in a `search` section, checked with the place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from nasdsl.compiler.diagnostics import CompileError, Diagnostic, suggest
from nasdsl.compiler.source import Span


class Settings(BaseModel):
    """What all settings have in common: no unknown entry, no later change, no number made of a truth value.

    Attributes:
        word: the entry that a word alone, in place of the record, stands for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    word: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_word(cls, value: Any) -> Any:
        return {cls.word: value} if cls.word is not None and isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
        if isinstance(value, bool | str) and {int, float} & set(kinds):
            raise ValueError("should be a number")
        return value


Share = Annotated[float, Field(ge=0, lt=1)]


class Optimiser(Settings):
    """The step rule.

    Attributes:
        name: which one. `sgd` and `rmsprop` have `momentum`, `adam` and `adamw` have `betas`.
        lr: the peak rate; left out, by the optimiser and the batch.
        lr_batch: the batch that `lr` is for; with another batch it is scaled in proportion.
        momentum: of `sgd` and `rmsprop`.
        nesterov: whether `sgd` looks ahead, as Nesterov's momentum does.
        alpha: of `rmsprop`, the decay of the mean of squares.
        betas: of `adam` and `adamw`, the decays of both means.
        eps: what is added to the root of the mean of squares.
    """

    name: Literal["sgd", "rmsprop", "adam", "adamw"] = "adamw"
    lr: float | None = Field(default=None, gt=0)
    lr_batch: int | None = Field(default=None, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    alpha: float = Field(default=0.9, ge=0, lt=1)
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    @field_validator("lr_batch")
    @classmethod
    def _scales_a_rate(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and "lr" in info.data and info.data["lr"] is None:
            raise ValueError("needs an `lr` that it is the batch of")
        return value

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("momentum"):
            raise ValueError("needs a momentum")
        return value


class SettledOptimiser(Optimiser):
    """A step rule whose rate is known."""

    lr: float = Field(gt=0)


class Schedule(Settings):
    """The learning rate over the run, as a factor of its peak.

    Attributes:
        name: its shape. Each has some of the others: `constant` warmup; `cosine` warmup and final; `onecycle` rise,
            start_div, final_div and cycle; `step` warmup, milestones and decay; `exponential` warmup, decay and
            decay_every.
        warmup: epochs in which the rate rises to its peak.
        warmup_from: the factor at the beginning of these.
        final: of `cosine`, the factor at the end.
        milestones: of `step`, epochs at which the rate is multiplied by `decay`.
        decay: the factor of each step.
        decay_every: of `exponential`, epochs between two steps.
        rise: of `onecycle`, the share of the run in which the rate rises.
        start_div, final_div: of `onecycle`, by what the peak is divided at the beginning, and that at the end.
        cycle: of `onecycle`, momentum (or the first beta) falls to the second number as the rate rises.
    """

    name: Literal["constant", "cosine", "onecycle", "step", "exponential"] = "onecycle"
    warmup: float = Field(default=0, ge=0)
    warmup_from: float = Field(default=0.0, ge=0, le=1)
    final: float = Field(default=0.0, ge=0, le=1)
    milestones: tuple[float, ...] = ()
    decay: float = Field(default=0.1, gt=0, le=1)
    decay_every: float = Field(default=2.4, gt=0)
    rise: float = Field(default=0.3, gt=0, lt=1)
    start_div: float = Field(default=25.0, ge=1)
    final_div: float = Field(default=1e4, ge=1)
    cycle: tuple[float, float] | None = None

    @field_validator("warmup", "decay_every", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("*")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        field, name = info.field_name or "", info.data.get("name", "")
        if name in SHAPES and field not in ("name", *SHAPES[name]) and value != cls.model_fields[field].default:
            raise ValueError(f"is not of `{name}`, which has {', '.join(SHAPES[name]) or 'no settings'}")
        return value


SHAPES: Mapping[str, tuple[str, ...]] = {
    "constant": ("warmup", "warmup_from"),
    "cosine": ("warmup", "warmup_from", "final"),
    "onecycle": ("rise", "start_div", "final_div", "cycle"),
    "step": ("warmup", "warmup_from", "milestones", "decay"),
    "exponential": ("warmup", "warmup_from", "decay", "decay_every"),
}
"""The settings that each schedule has."""


class Ema(Settings):
    """Averages of parameters and norm statistics. The HR-NAS code adjusts the decay to the batch and ramps it up.

    Attributes:
        decay: how much of the average stays in a step.
        decay_batch: the batch that `decay` is for: decay ^ (batch / decay_batch) is taken; `none` takes it as it is.
        ramp: whether it is at most (1 + t) / (10 + t) at step t.
    """

    decay: float = Field(default=0.9999, ge=0, lt=1)
    decay_batch: int | None = Field(default=4096, gt=0)
    ramp: bool = True


Init = str | dict[str, str]
WAYS = ("torch", "mnas")
"""How weights are drawn; the first where nothing is said."""
FILES = (".safetensors", ".pth")
"""Endings of files that weights are read from."""
REST = "rest"
"""The entry of `init` for what no file is for."""
MATCHING = "matching"
"""The entry of `init` for a file that gives what it has: each tensor that the network has, too."""


class Train(Settings):
    """How weights are trained. By default as `benchmarks/results/recipe.md` found to do well on small images.

    Attributes:
        preset: a recipe of a paper, whose settings hold where nothing else is said.
        epochs, batch: left out, by the number of training images.
        optimiser: the step rule; a record of settings of its own.
        schedule: the learning rate over the run.
        weight_decay: L2 on matrices and convolutions only.
        weight_decay_form: added to the gradient ("loss", as HR-NAS), or left to the optimiser ("optimiser"), which
            decouples it from the gradient for adamw and rmsprop.
        clip: the greatest norm of a step's gradient; left out, none.
        ema: averages of the weights, which are measured and kept in place of them.
        augment: name of one of the task's presets.
        augment_options: settings of that preset.
        task: options of the task, such as label smoothing.
        init: the first weights. "torch" (torch's own), "mnas" (normal, fan out), a file of weights for the whole
            network, or a record of parts by path and their files, in which `rest` says how all else starts. A file
            at `matching` gives each tensor whose name and shape the network has, too, such as a network that another
            search found; files of parts go before it.
        freeze: paths of parts that are not trained: their weights and norm statistics stay what they are at first.
        precision: of the numbers that a step computes with.
        channels_last: whether maps lie in memory pixel by pixel.
        recalibrate: batches from which running statistics are estimated anew at the end; 0 leaves them as they are.
    """

    preset: str | None = None
    epochs: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, gt=0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    weight_decay: float = Field(default=0.01, ge=0)
    weight_decay_form: Literal["loss", "optimiser"] = "optimiser"
    clip: float | None = Field(default=None, gt=0)
    ema: Ema | None = None
    augment: str = "none"
    augment_options: dict[str, Any] = {}
    task: dict[str, Any] = {}
    init: Init = "torch"
    freeze: tuple[str, ...] = ()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    channels_last: bool = True
    recalibrate: int = Field(default=10, ge=0)

    @field_validator("epochs", mode="before")
    @classmethod
    def _epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("init", mode="before")
    @classmethod
    def _can_start(cls, value: Any) -> Any:
        whole = isinstance(value, str)
        if not whole and not (isinstance(value, Mapping) and all(isinstance(how, str) for how in value.values())):
            raise ValueError("should be a word, a file, or a record of parts and their files")
        for part, how in {REST: value}.items() if isinstance(value, str) else value.items():
            words = WAYS if part == REST else ()
            files = FILES if whole or part != REST else ()
            if how not in words and not how.endswith(files):
                of = "" if whole else f"{part}: "
                raise ValueError(f"{of}should be {' or '.join((*words, *(f'a {ending} file' for ending in files)))}")
        return value

    @field_validator("freeze", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Settled(Train):
    """Settings of a training that leave nothing open."""

    epochs: float = Field(gt=0)
    batch: int = Field(gt=0)
    optimiser: SettledOptimiser


def amount(value: Any, unit: str) -> Any:
    """The number of `5 epochs`; a plain number is taken as it is."""
    if isinstance(value, Mapping) and len(value) == 1:
        (given, number), *_ = value.items()
        if str(given).rstrip("s") == unit.rstrip("s"):
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
    path = [str(part) for part in error["loc"] if part != "[key]"]  # of a record: which key, not where in it
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
        return Diagnostic(
            "unknown-setting",
            f"{where} has no setting `{key}`",
            span,
            help=suggest(path[-1], known) or f"it has {', '.join(known)}",
        )
    if error["type"] == "missing":
        return Diagnostic("missing-setting", f"{where} needs `{key}`", span)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] in ("dict_type", "model_type"):
        message = "should be a record, `{ name: value }`"
    return Diagnostic("bad-setting", f"`{key}` {message}" if key else f"{where} {message}", span)


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for step in path:
        inner = _model_of(model, step)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def merged(base: Mapping[str, Any], over: Mapping[str, Any], model: type[BaseModel] | None = None) -> dict[str, Any]:
    """`base` with the entries of `over`, record by record. A record with another `name` is another thing, such as
    another optimiser: it replaces the one that was there, of which nothing stays.

    Args:
        model: what the entries are settings of. What is one value there, such as a cost, is replaced whole.
    """
    out = dict(base)
    for key, value in over.items():
        within = _model_of(model, key)
        word = within.word if within is not None and issubclass(within, Settings) else None
        inner, value = (
            {word: one} if word is not None and isinstance(one, str) else one for one in (out.get(key), value)
        )
        out[key] = value
        if not isinstance(inner, Mapping) or not isinstance(value, Mapping) or (model is not None and within is None):
            continue
        if value.get("name", inner.get("name")) == inner.get("name"):
            out[key] = merged(inner, value, within)
    return out


def _model_of(model: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """The settings that stand under a key of other settings, if any do."""
    field = model.model_fields.get(key) if model is not None else None
    if field is None:
        return None
    candidates = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
