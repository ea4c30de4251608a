"""Which device to compute on, told before anything is read."""

from __future__ import annotations

import torch

from nasdsl.runtime.errors import RunError


def device_named(name: str) -> str:
    """The device that a user names, as torch calls it.

    Args:
        name: `cpu`, `cuda`, `mps`, or `auto` for the best that there is.

    Raises:
        RunError: there is no such device here.
    """
    here = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    usable = ", ".join(f"`{one}`" for one, there in here.items() if there)
    if name not in here:
        raise RunError(f"no device is called `{name}`", f"here there are {usable}")
    if not here[name]:
        raise RunError(f"this machine, or its torch, has no device `{name}`", f"here there are {usable}")
    return name if name != "auto" else next(one for one in ("cuda", "mps", "cpu") if here[one])
