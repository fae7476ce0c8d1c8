"""Exact convolutions over leading channels: the entropy path of models whose width changes (DESIGN D1; nn.exact defines the arithmetic).

All widths share the integers of weights, exponents and biases; a width reads the leading channels and filters of them. What a width has of its
own are the extra biases of :class:`WidthBias`. The bound on sums is that of the full filters, which no narrower one exceeds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.exact_filters import ExactFilters, ExactModule, conv2d_int64, rounding_shift
from neuralcodec.nn.fixed import Fixed, quantise_ste
from neuralcodec.nn.quality import ANCHORS, QualityBias, interpolate, interpolate_integers


class LeadingConv2d(ExactFilters):
    """At option o: (B, cins[o], H, W) -> (B, couts[o], H, W). ``depthwise`` needs cins == couts."""

    def __init__(self, cins: tuple[int, ...], couts: tuple[int, ...], kernel: int = 1, *, depthwise: bool = False, frac_in: int, limit_in: int,
                 frac_out: int, limit_out: int, relu: bool = True) -> None:
        super().__init__(cins[0], couts[0], kernel, groups=cins[0] if depthwise else 1, frac_in=frac_in, limit_in=limit_in,
                         frac_out=frac_out, limit_out=limit_out, relu=relu)
        self.cins, self.couts, self.depthwise = cins, couts, depthwise

    def forward(self, x: Fixed, option: int, extra: Tensor | None = None, execution: str = "float32") -> Fixed:
        """``extra`` (B, couts[option]): integers (int64) in units of the accumulator, or a real tensor while training; ``execution``: "float32", or
        "int64", which is the definition. Raises UsageError for an input of another format."""
        n, m = self.cins[option], self.couts[option]
        if x.frac != self.frac_in or x.limit > self.limit_in or x.values.shape[1] != n:
            raise UsageError(f"exact layer expects {n} channels of format (frac {self.frac_in}, limit {self.limit_in}), "
                             f"got {x.values.shape[1]} of (frac {x.frac}, limit {x.limit})")
        run = {"float32": self._forward_float32, "int64": self._forward_int64}[execution]
        return Fixed(run(x, n, m, extra), self.frac_out, self.limit_out, not self.relu)

    def _forward_float32(self, x: Fixed, n: int, m: int, extra: Tensor | None) -> Tensor:
        if self._frozen is not None and not self.training:
            w, b = self._frozen["wf"].to(x.values.device), self._frozen["bf"].to(x.values.device)
        else:
            w, b = self._rounded()
        w = w[:m] if self.depthwise else w[:m, :n]
        acc = F.conv2d(x.values, w, b[:m], padding=self.kernel // 2, groups=m if self.depthwise else 1)
        if extra is not None:
            acc = acc + self._real(extra, m)[..., None, None]
        return quantise_ste(acc, self.frac_out, self.low, self.limit_out, revive=not self.relu)

    def _rounded(self) -> tuple[Tensor, Tensor]:
        """Real weights and biases on the grids of the integers, with straight-through gradients."""
        w, b, k = (t.to(self.weight.device) for t in self.integer_parameters())
        unit = torch.exp2(-k.to(self.weight.dtype))
        w, b = w * unit[:, None, None, None], b * unit * 2.0**-self.frac_in
        return self.weight + (w - self.weight).detach(), self.bias + (b - self.bias).detach()

    def _real(self, extra: Tensor, m: int) -> Tensor:
        if extra.dtype != torch.int64:
            return extra
        unit = torch.exp2(-self.exponents()[:m].double()).to(extra.device) * 2.0**-self.frac_in
        return (extra.double() * unit).float()

    def _forward_int64(self, x: Fixed, n: int, m: int, extra: Tensor | None) -> Tensor:
        w, b, k = self.integer_parameters()
        w = w[:m] if self.depthwise else w[:m, :n]
        acc = conv2d_int64(x.integers, w, self.kernel // 2, m if self.depthwise else 1) + b[:m, None, None]
        if extra is not None:
            acc = acc + extra[..., None, None]
        y = rounding_shift(acc, (self.frac_in + k[:m] - self.frac_out)[:, None, None]).clamp(self.low, self.limit_out)
        return y.to(torch.float32) * 2.0**-self.frac_out

    def channels(self, option: int) -> tuple[int, int]:
        """Of input and output."""
        return self.cins[option], self.couts[option]

    def macs(self, option: int) -> int:
        """Multiply-accumulates for a position."""
        return self.kernel**2 * self.couts[option] * (1 if self.depthwise else self.cins[option])

    def stored(self, option: int) -> int:
        """Parameters that a width reads: weights, biases and exponents."""
        return self.macs(option) + 2 * self.couts[option]


class WidthBias(ExactModule):
    """Extra bias of a LeadingConv2d by width and quality: real anchors (options, A, cout) while training, integers once frozen. Of a narrow width
    only the leading entries count."""

    def __init__(self, options: int, channels: int) -> None:
        super().__init__()
        self.anchors = nn.Parameter(torch.zeros(options, ANCHORS, channels))
        self._frozen: Tensor | None = None

    def freeze(self, conv: LeadingConv2d) -> None:
        """Fix the integers for deployment, after those of ``conv``. Raises UsageError when sums would reach the accumulator's limit."""
        self._frozen = None
        self.load_integers(self.integers(conv), conv)

    def load_integers(self, table: Tensor, conv: LeadingConv2d) -> None:
        """Take integers (from a model file), after ``conv`` has its own. Raises UsageError when they do not fit."""
        table = table.to(torch.int64)
        if table.shape != self.anchors.shape:
            raise UsageError(f"table of biases {tuple(table.shape)} does not fit {tuple(self.anchors.shape)}")
        if int(table.abs().max()) > QualityBias.LIMIT:
            raise UsageError(f"table of biases beyond {QualityBias.LIMIT}")
        conv.check_extra(table)
        self._frozen = table
        with torch.no_grad():
            self.anchors.copy_(table.double() / self._unit(conv))

    def integers(self, conv: LeadingConv2d) -> Tensor:
        """(options, A, cout) int64 in units of the accumulator of ``conv``."""
        if self._frozen is not None:
            return self._frozen
        return conv.bias_to_integers(self.anchors).clamp(-QualityBias.LIMIT, QualityBias.LIMIT)

    def forward(self, conv: LeadingConv2d, quality: Tensor, option: int) -> Tensor:
        """quality (B,) -> (B, couts[option]): int64 when frozen, else a real tensor that equals the integers, with a gradient."""
        m = conv.couts[option]
        n = interpolate_integers(self.integers(conv)[option, :, :m].to(quality.device), quality)
        if self._frozen is not None and not self.training:
            return n
        soft = interpolate(self.anchors[option, :, :m], quality)
        return soft + ((n.double() / self._unit(conv)[:m]).to(soft.dtype) - soft).detach()

    def _unit(self, conv: LeadingConv2d) -> Tensor:
        return torch.exp2(conv.exponents().double()).to(self.anchors.device) * 2.0**conv.frac_in
