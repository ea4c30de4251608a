"""Attention operators against the same sums with keys and values copied for each offset: time and memory of training.

    python -m benchmarks attention

All rivals of a table take turns in one process on one thread, with the same weights and images. The widths are those of
the stages of TrioNet, at their largest.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import RESULTS, interleaved, peak, ratio, report, table
from nasdsl.compiler.layers.attention import AxialAttention, AxisAttention, LocalAttention, RelativeAttention

STAGES = ((56, 64), (28, 128), (14, 256), (7, 512))  # pixels of a side, channels
WINDOWS = (3, 5, 7)
HEADS = (4, 8)


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time and memory of attention operators, forward and backward, against copies for each offset."
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each table (default: 5)")
    parser.add_argument("--images", type=int, default=8, help="images in a batch (default: 8)")
    parser.add_argument("--device", default="cpu", help="`cpu` (the default) or `cuda`")
    parser.add_argument("--quick", action="store_true", help="the smallest map only")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stages = STAGES[-1:] if args.quick else STAGES
    local, axial = [], []
    for size, channels in stages:
        for heads in HEADS:
            for window in WINDOWS:
                module = LocalAttention(channels, channels, channels, heads, window)
                cells = compared(module, UnfoldedLocal(module), size, channels, args)
                local.append((f"{size} x {size} x {channels}", f"{heads}", f"{window}", *cells))
            across = AxialAttention(channels, channels, channels, heads, size, size)
            cells = compared(across, UnfoldedAxial(across), size, channels, args)
            axial.append((f"{size} x {size} x {channels}", f"{heads}", *cells))
    figures = ("ms", "with copies, ms", "ratio", "MiB", "with copies, MiB", "ratio")
    note = (
        f"{args.images} images, float32, channels last; with the projections. Medians; memory is the most that "
        "is allocated at once, beside weights and input."
    )
    sections = [
        ("Local attention", f"{table(('map', 'heads', 'window', *figures), local)}\n\n{note}"),
        ("Axial attention", f"{table(('map', 'heads', *figures), axial)}\n\n{note}"),
    ]
    report("attention", "Training of attention operators", sections, None if args.no_write else RESULTS)


def compared(ours: nn.Module, theirs: nn.Module, size: int, channels: int, args: argparse.Namespace) -> list[str]:
    """Milliseconds of both and their ratio, MiB of both and their ratio."""
    form, device = torch.channels_last, torch.device(args.device)
    x_BCHW = torch.randn(args.images, channels, size, size, device=device).contiguous(memory_format=form)
    x_BCHW.requires_grad_()
    modules = {"ours": ours, "theirs": theirs}
    steps = {name: step(m.to(device).to(memory_format=form), x_BCHW) for name, m in modules.items()}  # type: ignore[call-overload]
    times = interleaved(steps, args.repeats, warm=1, cpu=device.type == "cpu")
    memory = {name: peak(run, device) for name, run in steps.items()}
    cells = [f"{1000 * statistics.median(times[name]):.1f}" for name in steps]
    cells.append(f"{ratio(times, 'ours', 'theirs'):.2f}")
    cells += [f"{memory[name] / 2**20:.1f}" for name in steps]
    return [*cells, f"{memory['ours'] / memory['theirs']:.2f}"]


def step(module: nn.Module, x_BCHW: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        x_BCHW.grad = None
        module.zero_grad(set_to_none=True)
        y_BCHW = module(x_BCHW)
        y_BCHW.backward(torch.ones_like(y_BCHW))
        if x_BCHW.is_cuda:
            torch.cuda.synchronize()

    return run


# --- With copies ------------------------------------------------------------------------------------------------------


class Unfolded(nn.Module):
    """An operator with the weights of another, whose keys, values and vectors stand there once for each offset."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = copy.deepcopy(whole)


class UnfoldedLocal(Unfolded):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        whole = self.whole
        assert isinstance(whole, LocalAttention)
        window, (batch, _, height, width) = whole.window, x_BCHW.shape
        q_BnDHW, k_BnDHW, v_BnEHW = whole.split(x_BCHW)

        def copies(x_BnDHW: torch.Tensor) -> torch.Tensor:
            unfolded = F.unfold(x_BnDHW.flatten(1, 2), window, padding=window // 2)
            return unfolded.view(batch, whole.heads, -1, window**2, height * width)

        q_BnDP = q_BnDHW.flatten(3)
        logits_BnKP = torch.einsum("bndp,bndkp->bnkp", q_BnDP, copies(k_BnDHW))
        if whole.offsets is not None:
            logits_BnKP = logits_BnKP + whole.vectors(whole.offsets.flatten(1)) @ q_BnDP
        inside_1KP = F.unfold(torch.ones(1, 1, height, width, device=x_BCHW.device), window, padding=window // 2)
        weights_BnKP = logits_BnKP.masked_fill(inside_1KP == 0, float("-inf")).softmax(2)
        y_BnEP = torch.einsum("bnkp,bnekp->bnep", weights_BnKP, copies(v_BnEHW))
        return whole.pool(whole.join(torch.unflatten(y_BnEP, 3, (height, width))))


class UnfoldedAxial(Unfolded):
    """Lines need no copies of keys and values; the vectors of offsets stand there for each pair of places."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        whole = self.whole
        assert isinstance(whole, AxialAttention)
        y_BCHW = lines(whole.height, x_BCHW.transpose(2, 3)).transpose(2, 3)
        return whole.pool(lines(whole.width, y_BCHW))


def lines(part: AxisAttention, x_BCML: torch.Tensor) -> torch.Tensor:
    q_BnMLD, k_BnMLD, v_BnMLE = (x.permute(0, 1, 3, 4, 2) for x in RelativeAttention.split(part, x_BCML))
    logits_BnMLL = q_BnMLD @ k_BnMLD.transpose(-2, -1)
    if part.offsets is not None:
        place_L = torch.arange(x_BCML.shape[3], device=x_BCML.device)
        r_nLLD = part.vectors(part.offsets)[:, place_L - place_L[:, None] + part.span - 1]
        logits_BnMLL = logits_BnMLL + torch.einsum("bnmod,nopd->bnmop", q_BnMLD, r_nLLD)
    return part.join((logits_BnMLL.softmax(-1) @ v_BnMLE).permute(0, 1, 4, 2, 3))
