"""Batches whose order and augmentation follow from (seed, epoch, step) alone, so that a killed run resumes exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nasdsl.runtime.data.datasets import collate
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.splits import Samples

Batch = tuple[Tensor, Any]
"""Images, float32 (B, C, H, W), and the targets of a task."""

Augment = Callable[[Tensor, Any, torch.Generator], Batch]
Normalise = Callable[[Tensor], Tensor]


class Loader:
    """Batches of a map-style data set.

    The global random state is neither read nor changed: the order comes from (seed, epoch), by chance or as the set
    says (its `order`, with `drawn` samples an epoch), and the generator that `augment` gets from (seed, epoch, step,
    rank). With `world` > 1 each rank takes every world-th sample of a global batch of `batch_size * world`, so that
    together the ranks see what one rank with that batch size sees.
    Without `drop_last` no sample is repeated or lost: the ranks may then differ by one batch.

    `workers` threads prepare batches ahead (decoding lets go of the interpreter lock); 0 prepares them in place.
    Samples come as 8-bit numbers and become floats in 0..1 on `device`, where augmentation and `normalise` run too.
    """

    def __init__(
        self,
        dataset: Samples | Dataset[Any],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: Augment | None = None,
        normalise: Normalise | None = None,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Raises:
            DataError: a batch is less than one sample, or with `drop_last` there is less than one batch.
        """
        if batch_size < 1 or workers < 0 or not 0 <= rank < world:
            raise DataError(
                f"a loader needs batch_size >= 1, workers >= 0 and 0 <= rank < world, "
                f"not {batch_size}, {workers}, {rank} of {world}"
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.drop_last, self.augment, self.normalise = shuffle, drop_last, augment, normalise
        self.workers, self.rank, self.world, self.device = workers, rank, world, torch.device(device)
        self._count = len(dataset)  # type: ignore[arg-type]
        if shuffle and hasattr(dataset, "drawn"):  # a sampler of the user's may draw fewer or more
            self._count = dataset.drawn
        if drop_last and len(self) == 0:
            raise DataError(
                f"the split has {self._count} samples: fewer than one batch of {batch_size * world}",
                help="use a smaller batch",
            )

    def __len__(self) -> int:
        """Batches in an epoch, for this rank."""
        together = self.batch_size * self.world
        full, rest = divmod(self._count, together)
        return full if self.drop_last or rest <= self.rank else full + 1

    def order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The order of all samples in an epoch, before it is dealt to ranks."""
        if not self.shuffle:
            return np.arange(self._count)
        own = self.dataset.order(self.seed, epoch) if hasattr(self.dataset, "order") else None
        if own is not None:
            return np.asarray(own, np.int64)
        return np.random.default_rng([self.seed, epoch]).permutation(self._count)

    def epoch(self, epoch: int = 0, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on: the same as if the epoch had begun at 0."""
        order = self.order(epoch)
        steps = iter(range(start_step, len(self)))
        if self.workers == 0:
            for step in steps:
                yield self._finish(self._fetch(order, step), epoch, step)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            ahead: deque[tuple[int, Future[Batch]]] = deque()
            try:
                for step in steps:
                    ahead.append((step, pool.submit(self._prepare, order, epoch, step)))
                    if len(ahead) > self.workers:
                        yield ahead.popleft()[1].result()
                while ahead:
                    yield ahead.popleft()[1].result()
            finally:  # the consumer may stop early, or a batch may fail
                for _, future in ahead:
                    future.cancel()

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def _prepare(self, order: np.ndarray[Any, np.dtype[np.int64]], epoch: int, step: int) -> Batch:
        return self._finish(self._fetch(order, step), epoch, step)

    def _fetch(self, order: np.ndarray[Any, np.dtype[np.int64]], step: int) -> Batch:
        together = self.batch_size * self.world
        rows = order[step * together : (step + 1) * together][self.rank :: self.world].tolist()
        if hasattr(self.dataset, "batch"):
            images, targets = self.dataset.batch(rows)
        else:
            images, targets = collate([self.dataset[row] for row in rows])
        return images, targets

    def _finish(self, batch: Batch, epoch: int, step: int) -> Batch:
        images, targets = _moved(batch, self.device)
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        if self.augment is not None:
            images, targets = self.augment(images, targets, step_generator(self.seed, epoch, step, self.rank))
        if self.normalise is not None:
            images = self.normalise(images)
        return images, targets


def step_generator(seed: int, epoch: int, step: int, rank: int = 0) -> torch.Generator:
    """A CPU generator for one step. Its streams are unrelated between steps, as numpy mixes the four numbers."""
    state = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(one, device) for one in value)
    return value
