"""What every test shares: quiet threads, data outside the checkout, expected files that one option renews."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports torch or numpy, and for the processes that tests start: one thread each, and no spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="rewrite the expected files instead of comparing with them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Tests run side by side, so each keeps to one core; torch is not imported for the sake of it."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of larger data sets beside the checkout; tests that want it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no larger data sets beside the checkout ({folder})")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file at `path` holds exactly `text`. With `--golden` it is written instead."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path.name} does not exist; `make golden` writes it")
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), path.name, "now", lineterm="")
            pytest.fail("\n".join([*lines, "if this is meant: `make golden`"]), pytrace=False)

    return compare


@pytest.fixture
def torch_macs() -> Callable[[Any, Any], tuple[int, Any]]:
    """`torch_macs(network, images)`: MACs as torch counts them, and the output.

    Torch's counter sees products of matrices and convolutions only, so local attention is written with matrices there,
    with a copy of the keys and values for each offset.
    """
    import torch
    import torch.nn.functional as F
    from torch.utils.flop_counter import FlopCounterMode

    from nasdsl.compiler.layers.attention import LocalAttention

    def with_matrices(self: LocalAttention, x_BCHW: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x_BCHW.shape
        window, size = self.window, (height, width)

        def copies(part: torch.Tensor) -> torch.Tensor:
            unfolded = F.unfold(part.flatten(1, 2), window, padding=window // 2)
            return unfolded.view(batch, self.heads, -1, window**2, height * width).permute(0, 1, 4, 2, 3)

        q_BnDHW, k_BnDHW, v_BnEHW = self.split(x_BCHW)
        rows_BnP1D = q_BnDHW.flatten(3).transpose(2, 3)[..., None, :]
        logits_BnP1K = rows_BnP1D @ copies(k_BnDHW)
        if self.offsets is not None:
            r_nDK = self.apart(self.offsets.flatten(1), 0, self.tables)
            logits_BnP1K = logits_BnP1K + (rows_BnP1D[..., 0, :] @ r_nDK)[..., None, :]
        inside_1KP = F.unfold(torch.ones(1, 1, *size, device=x_BCHW.device), window, padding=window // 2)
        logits_BnP1K = logits_BnP1K.masked_fill(inside_1KP[0].T[:, None] == 0, float("-inf"))
        y_BnP1E = logits_BnP1K.softmax(-1) @ copies(v_BnEHW).transpose(3, 4)
        y_BnEP = y_BnP1E[..., 0, :].transpose(2, 3)
        return self.pool(self.join(torch.unflatten(y_BnEP, 3, size)))

    def count(network: torch.nn.Module, images: torch.Tensor) -> tuple[int, torch.Tensor]:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(LocalAttention, "forward", with_matrices)
            with FlopCounterMode(display=False) as counter:
                output = network(images)
        return counter.get_total_flops() // 2, output

    return count
