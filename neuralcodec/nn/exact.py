"""Exact layers: convolutions over integers, one definition with several executions that agree on every input (DESIGN D1).

Definition, for output channel c (all quantities integers; ``>>`` is an arithmetic shift)::

    acc = sum_i w[c, i] * x[i] + b[c]                      w in [-127, 127], x of the layer's input format
    acc = round_to_bfloat16(acc)                           only where the layer declares accumulator="bfloat16"
    s   = frac_in + k[c] - frac_out                        k[c]: the filter's weight exponent
    y   = (acc + 2**(s-1)) >> s   if s > 0 else acc << -s  rounding half up
    y   = clamp(y, low, high)                              low = 0 with ReLU, else -high

The bound ``sum |w| * limit_in + |b| + 2**(s-1) < 2**24`` holds for every filter (checked at export; the exponents are chosen so
that it does), so a float32 carrier computes acc exactly whatever the order of summation.

Training runs the float32 execution on fake-quantised weights, with straight-through gradients: it computes exactly
what the deployed layer computes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.exact_filters import ExactFilters, ExactModule, conv2d_int64, rounding_shift
from neuralcodec.nn.fixed import Fixed, quantise_ste

WEIGHT_LIMIT = ExactFilters.weight_limit
MAX_EXPONENT = ExactFilters.max_exponent
ACCUMULATOR_LIMIT = ExactFilters.accumulator_limit
EXECUTIONS = ("float32", "float64", "int64", "bfloat16")


class ExactList(ExactModule):
    """Exact modules by their index from 0."""

    def __init__(self, *layers: ExactModule) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)

    def __getitem__(self, index: int) -> ExactModule:
        return self.get_submodule(str(index))


class ExactSequential(ExactList):
    """Exact modules in a row."""

    def forward(self, x: Fixed) -> Fixed:
        for layer in self.children():
            x = layer(x)
        return x


class ExactConv2d(ExactFilters):
    """Convolution over fixed-point integers, stride 1, zero padding that keeps the size; see ExactFilters for its sizes and formats.

    ``accumulator`` is "exact" or "bfloat16" (acc rounded once, half to even). An optional per-call bias (``extra``, integers in units
    of the accumulator per output channel, or in training a real tensor) carries the quality index into the network.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, frac_in: int, limit_in: int, frac_out: int,
                 limit_out: int, relu: bool = True, accumulator: str = "exact") -> None:
        super().__init__(cin, cout, kernel, groups=groups, frac_in=frac_in, limit_in=limit_in, frac_out=frac_out, limit_out=limit_out, relu=relu)
        if accumulator not in ("exact", "bfloat16"):
            raise UsageError(f"unknown accumulator {accumulator!r}")
        if accumulator == "bfloat16" and limit_in > 256:
            raise UsageError("a bfloat16 accumulator needs inputs that bfloat16 holds exactly (up to 256)")
        self.accumulator = accumulator

    # -- executions -----------------------------------------------------------------------------------------------

    def forward(self, x: Fixed, extra: Tensor | None = None, execution: str = "float32") -> Fixed:
        """x (B, cin, H, W) -> (B, cout, H, W). ``extra`` (cout,) or (B, cout): integers (int64) in units of the accumulator,
        or a real tensor while training."""
        if not isinstance(x, Fixed):
            raise TypeError("exact layers take fixed-point tensors only")
        if x.frac != self.frac_in or x.limit > self.limit_in or x.values.shape[1] != self.cin:
            raise UsageError(f"exact layer expects {self.cin} channels of format (frac {self.frac_in}, limit {self.limit_in}), "
                             f"got {x.values.shape[1]} of (frac {x.frac}, limit {x.limit})")
        if execution == "int64":
            y = self._forward_int64(x, extra)
            return Fixed(y.to(torch.float32) * 2.0**-self.frac_out, self.frac_out, self.limit_out, not self.relu)
        acc = self._accumulate(x.values, execution)
        if extra is not None:
            if execution == "bfloat16":  # its sum is rounded already
                raise UsageError("bfloat16 carriers cannot take a per-call bias")
            acc = acc + self._real_extra(extra, acc.dtype)[..., None, None]
        if self.accumulator == "bfloat16":
            acc = _bfloat16_ste(acc)
        y = quantise_ste(acc, self.frac_out, self.low, self.limit_out, revive=not self.relu)
        return Fixed(y, self.frac_out, self.limit_out, not self.relu)

    def _accumulate(self, values: Tensor, execution: str) -> Tensor:
        pad = self.kernel // 2
        if execution not in EXECUTIONS:
            raise UsageError(f"unknown execution {execution!r}")
        if self._frozen is not None and not self.training:
            w, b = self._frozen["wf"], self._frozen["bf"]
            if w.device != values.device:
                w, b = w.to(values.device), b.to(values.device)
                self._frozen.update(wf=w, bf=b)
        else:
            w, b = self._fake_quantised()
        if execution == "bfloat16":
            # The hardware's sum is the exact one rounded once, so the bias must be inside of it: one more input channel
            # would do that, but a bias of more than 8 bits does not fit bfloat16. Hence only bias-free layers qualify.
            if self.accumulator != "bfloat16" or bool((b != 0).any()):
                raise UsageError("bfloat16 carriers need a layer with a bfloat16 accumulator and no bias")
            bf = torch.bfloat16
            return F.conv2d(values.to(bf), w.to(bf), None, padding=pad, groups=self.groups).to(torch.float32)
        dtype = torch.float64 if execution == "float64" else torch.float32
        return F.conv2d(values.to(dtype), w.to(dtype), b.to(dtype), padding=pad, groups=self.groups)

    def _fake_quantised(self) -> tuple[Tensor, Tensor]:
        k = torch.exp2(self.exponents().to(self.weight.dtype)).to(self.weight.device)
        kw, kb = k[:, None, None, None], k * 2.0**self.frac_in
        w = torch.round(self.weight.detach() * kw).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) / kw
        b = torch.round(self.bias.detach() * kb) / kb
        return self.weight + (w - self.weight).detach(), self.bias + (b - self.bias).detach()

    def _real_extra(self, extra: Tensor, dtype: torch.dtype) -> Tensor:
        unit = torch.exp2(self.exponents().to(torch.float64)).to(extra.device) * 2.0**self.frac_in
        if extra.dtype == torch.int64:
            return (extra.double() / unit).to(dtype)
        rounded = (torch.round(extra.detach().double() * unit) / unit).to(dtype)
        return extra.to(dtype) + (rounded - extra.detach()).to(dtype)

    def _forward_int64(self, x: Fixed, extra: Tensor | None) -> Tensor:
        w, b, k = self.integer_parameters()
        acc = conv2d_int64(x.integers, w, self.kernel // 2, self.groups) + b[:, None, None]
        if extra is not None:
            e = extra if extra.dtype == torch.int64 else self.bias_to_integers(extra)
            acc = acc + e[..., None, None]
        if self.accumulator == "bfloat16":
            acc = round_to_significant(acc, 8)
        return rounding_shift(acc, (self.frac_in + k - self.frac_out)[:, None, None]).clamp(self.low, self.limit_out)


def round_to_significant(n: Tensor, bits: int) -> Tensor:
    """Round integers to ``bits`` significant bits, half to even: what one rounding to bfloat16 (8 bits) does."""
    magnitude = n.abs()
    length = torch.zeros_like(n)
    for p in range(1, 40):
        length += (magnitude >= (1 << (p - 1))).long()
    shift = (length - bits).clamp_min(0)
    half = torch.where(shift > 0, torch.ones_like(n) << (shift - 1).clamp_min(0), torch.zeros_like(n))
    low = magnitude >> shift
    rest = magnitude - (low << shift)
    up = (rest > half) | ((rest == half) & (shift > 0) & (low & 1).bool())
    return torch.sign(n) * ((low + up.long()) << shift)


def _bfloat16_ste(acc: Tensor) -> Tensor:
    # A power-of-two scale does not change which values bfloat16 holds, so the real carrier may be rounded as it is.
    return acc + (acc.detach().to(torch.bfloat16).to(acc.dtype) - acc.detach())
