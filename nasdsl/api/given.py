"""What the functions of Python share: what they take as a space, as data and as settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

    from nasdsl.runtime.data import Data
    from nasdsl.runtime.search import Options


class CallError(ArgumentError):
    """Arguments that do not go together. Its texts name them in backticks, as those of the commands' options."""


@runtime_checkable
class HasSpace(Protocol):
    """What a search or a training gave."""

    @property
    def space(self) -> Space: ...


SpaceLike: TypeAlias = Space | HasSpace | str | PathLike[str]
"""A space; what a search or a training gave; the path of a file; or the name of a space that ships."""

if TYPE_CHECKING:
    Part: TypeAlias = Dataset[Any] | DataLoader[Any] | Sequence[tuple[Any, Any]]
    DataLike: TypeAlias = str | PathLike[str] | Data | Part | tuple[Part, ...] | None
    """A path; the name of data that ships; sets or loaders (`nasdsl.Data`); None is what ships for the task."""
else:
    DataLike = Any

WeightsLike: TypeAlias = str | PathLike[str] | Supernet | None
"""A file of weights, or a network that has them."""


def space_like(given: SpaceLike) -> Space:
    """
    Raises:
        CompileError: a file has mistakes, or there is none.
        ArgumentError: it is nothing of that kind.
    """
    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.files import source_of

    if isinstance(given, Space):
        return given
    if isinstance(given, str | PathLike):
        return elaborate(source_of(str(given)))
    if isinstance(given, HasSpace) and isinstance(given.space, Space):
        return given.space
    raise CallError(f"a space is needed here, and this is a {type(given).__name__}", "`nasdsl.load` reads one")


def weights_like(given: SpaceLike, weights: WeightsLike) -> Path | Supernet | None:
    """Weights as they are named, or those of what a search or a training gave; None are those beside the file."""
    if weights is None:
        found = getattr(given, "network", None)
        return found if isinstance(found, Supernet) else None
    return weights if isinstance(weights, Supernet) else Path(weights)


def tables_like(
    latency: str | PathLike[str] | None, measured: Mapping[str, str | PathLike[str]] | None
) -> dict[str, Path]:
    """The files that measures are read from, by their names."""
    given = {**(measured or {}), **({} if latency is None else {"latency": latency})}
    return {name: Path(file) for name, file in given.items()}


def data_like(given: DataLike) -> str | Data | None:
    """
    Raises:
        DataError: it is no data.
    """
    from nasdsl.runtime.data import Data

    if given is None:
        return None
    return str(given) if isinstance(given, str | PathLike) else Data.of(given)


def options_of(
    data: DataLike,
    settings: Mapping[str, Any],
    *,
    run: str | PathLike[str] | None = None,
    seed: int = 0,
    fresh: bool = False,
    reader: str | None = None,
    links: bool = False,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    latency: str | PathLike[str] | None = None,
    measured: Mapping[str, str | PathLike[str]] | None = None,
    test: bool = False,
) -> Options:
    """How and where to run.

    Args:
        settings: what goes before the settings of the file.
        threads: of torch on the CPU.
    """
    from nasdsl.runtime.search import Options

    if threads:
        import torch

        torch.set_num_threads(threads)
    found = data_like(data)
    for name, there in (("reader", reader is not None), ("links", links)):
        if there and not isinstance(found, str):
            what = "there is none" if found is None else "it is no file"
            raise CallError(f"`{name}` says how `data` is read, and {what}")
    return Options(
        data=found,
        run=None if run is None else Path(run),
        seed=seed,
        overrides=settings,
        accelerator=device,
        workers=workers,
        reader=reader,
        links=links,
        latency=None if latency is None else str(latency),
        measured={name: str(file) for name, file in (measured or {}).items()},
        fresh=fresh,
        test=test,
    )


def settings_of(*parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings from several arguments; what is None is not said.

    Raises:
        ArgumentError: two say the same setting.
    """
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in (part or {}).items():
            if value is None:
                continue
            if name in found:
                raise CallError(f"two arguments say what `{name}` is")
            found[name] = value
    return found


def with_training(settings: dict[str, Any], given: Mapping[str, Any], within: str | None) -> dict[str, Any]:
    """Settings with some of `train`, such as the number of epochs, which go into the record of that name.

    Args:
        within: the record; None where the settings are those of a training themselves.

    Raises:
        ArgumentError: two arguments say the same.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if within is None or not given:
        return settings_of(settings, given)
    inner = settings.get(within, {})
    if not isinstance(inner, Mapping):
        raise CallError(f"`{within}` is a record of settings")
    return {**settings, within: settings_of(inner, given)}


def limits_of(given: Any) -> Any:
    """Limits as settings have them: `"macs <= 5M"`, several of these, or records such as `{"macs": 5e6}`.

    Raises:
        CompileError: a text is no limit.
    """
    if given is None or isinstance(given, Mapping):
        return given
    if isinstance(given, str):
        return read_values({"budget": given})["budget"]
    return [limits_of(one) for one in given]


def names_of(given: str | Sequence[str] | None) -> Any:
    """One name or several; none are not said."""
    return None if given is None or not len(given) else given


def path_of(given: Any) -> Any:
    """A file that a setting names lies where the caller is, and not beside the space's file."""
    if isinstance(given, str | PathLike):
        return str(Path(given).resolve())
    if isinstance(given, Mapping) and "file" in given:
        return {**given, "file": str(Path(given["file"]).resolve())}
    return given
