"""The mixed depthwise convolution of the HR-NAS paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.activation import activation
from nasdsl.compiler.layers.conv import Depthwise, SqueezeExcite
from nasdsl.compiler.layers.recording import recorded


def norm_momentum(norm: nn.BatchNorm2d) -> float:
    """How much this batch weighs in the running statistics; in training it is counted, as the module itself would."""
    if not norm.training or norm.num_batches_tracked is None:
        return norm.momentum or 0.0
    norm.num_batches_tracked.add_(1)
    return 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


def norm_part(x_BCHW: torch.Tensor, norm: nn.BatchNorm2d, part: slice, momentum: float) -> torch.Tensor:
    """The batch norm's answer for the channels `part` alone, which is all that `x` has."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return F.batch_norm(x_BCHW, None, None, norm.weight[part], norm.bias[part], True, momentum, norm.eps)
    training = norm.training
    return F.batch_norm(
        x_BCHW, mean[part], variance[part], norm.weight[part], norm.bias[part], training, momentum, norm.eps
    )


class MixConv(nn.Module):
    """1x1 expansion, depthwise convolutions of several kernel sizes on parts of it, 1x1 projection.

    One expansion, one norm before and one after the depthwise convolutions, and one projection serve all kernels; the
    parts lie in the order of `hidden`. The scale of `hidden_norm` holds the importance factors. HR-NAS paper, searching
    block.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: dict[int, int],
        stride: int = 1,
        act: str = "relu",
        squeeze: int = 0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        """`hidden` has a positive width for each kernel size, `squeeze` the width of squeeze-excite or 0 for none."""
        super().__init__()
        total = sum(hidden.values())
        self.expand = nn.Conv2d(inputs, total, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(total, eps, momentum)
        self.depthwise = nn.ModuleDict({str(k): Depthwise(n, k, stride) for k, n in hidden.items()})
        self.hidden_norm = nn.BatchNorm2d(total, eps, momentum)
        self.act = activation(act, inplace=True)
        self.squeeze = SqueezeExcite(total, squeeze, act) if squeeze else None
        self.project = nn.Conv2d(total, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs, eps, momentum)
        self.parts: list[slice] = []
        start = 0
        for n in hidden.values():
            self.parts.append(slice(start, start + n))
            start += n

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """B C H W -> B C' H' W' with H' = ceil(H / stride)."""
        if recorded(x_BCHW):
            return self.together(x_BCHW)
        pixels = x_BCHW.shape[0] * x_BCHW.shape[2] * x_BCHW.shape[3]
        return self.together(x_BCHW) if pixels * self.parts[-1].stop < 2**18 else self.apart(x_BCHW)

    def together(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Splits what was expanded and concatenates again. It has the fewest operations, which counts on small maps."""
        y = self.act(self.expand_norm(self.expand(x_BCHW)))
        pieces = y.split([part.stop - part.start for part in self.parts], 1)
        parts = [depthwise(piece) for piece, depthwise in zip(pieces, self.depthwise.values(), strict=True)]
        y = self.act(self.hidden_norm(parts[0] if len(parts) == 1 else torch.cat(parts, 1)))
        return self.project_norm(self.project(y if self.squeeze is None else self.squeeze(y)))

    def apart(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Each kernel's part runs by itself with its rows and columns of the shared weights.

        The projection of a concatenation is a sum of projections. On a CPU this is up to twice as fast on large maps.
        """
        expand_momentum = norm_momentum(self.expand_norm)
        hidden_momentum = norm_momentum(self.hidden_norm)
        parts = []
        for part, depthwise in zip(self.parts, self.depthwise.values(), strict=True):
            y = F.conv2d(x_BCHW, self.expand.weight[part])
            y = depthwise(self.act(norm_part(y, self.expand_norm, part, expand_momentum)))
            y = self.act(norm_part(y, self.hidden_norm, part, hidden_momentum))
            parts.append(y if self.squeeze is not None else F.conv2d(y, self.project.weight[:, part]))
        if self.squeeze is not None:
            gates = self.squeeze.gates(torch.cat([y.mean((2, 3), keepdim=True) for y in parts], 1))
            for i, part in enumerate(self.parts):
                parts[i] = F.conv2d(parts[i] * gates[:, part], self.project.weight[:, part])
        total = parts[0]
        for y in parts[1:]:
            total = total + y
        return self.project_norm(total)
