"""Exact layers: convolutions over integers, one definition with several executions that agree on every input (DESIGN D1).

Definition, for output channel c (all quantities integers; ``>>`` is an arithmetic shift)::

    acc = sum_i w[c, i] * x[i] + b[c]                      w in [-127, 127], x of the layer's input format
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
EXECUTIONS = ("float32", "float64", "int64")


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

    An optional per-call bias (``extra``, integers in units of the accumulator per output channel, or in training a real tensor) carries the
    quality index into the network.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, frac_in: int, limit_in: int, frac_out: int,
                 limit_out: int, relu: bool = True) -> None:
        super().__init__(cin, cout, kernel, groups=groups, frac_in=frac_in, limit_in=limit_in, frac_out=frac_out, limit_out=limit_out, relu=relu)

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
        deployed = self._frozen is not None and not self.training and not (torch.is_grad_enabled() and x.values.requires_grad)
        if deployed and execution == "float32" and (extra is None or extra.dtype == torch.int64):
            return Fixed(self._deployed(x.values, extra), self.frac_out, self.limit_out, not self.relu)
        acc = self._accumulate(x.values, execution)
        if extra is not None:
            acc = acc + self._real_extra(extra, acc.dtype)[..., None, None]
        y = quantise_ste(acc, self.frac_out, self.low, self.limit_out, revive=not self.relu)
        return Fixed(y, self.frac_out, self.limit_out, not self.relu)

    def _deployed(self, values: Tensor, extra: Tensor | None) -> Tensor:
        """The float32 execution of frozen filters, in few passes: sums in units of the output, rounded by their bias."""
        weight, bias = self._frozen_on(values.device, "scaled", "rounding")
        y = F.conv2d(values, weight, bias, padding=self.kernel // 2, groups=self.groups)
        if extra is not None:
            y += (self._real_extra(extra, y.dtype).to(y.device) * 2.0**self.frac_out)[..., None, None]
        return y.floor_().clamp_(self.low, self.limit_out).mul_(2.0**-self.frac_out)

    def _frozen_on(self, device: torch.device, *names: str) -> list[Tensor]:
        """Frozen parameters by name, kept on the device where they were last used."""
        for name in names:
            if self._frozen[name].device != device:
                self._frozen[name] = self._frozen[name].to(device)
        return [self._frozen[name] for name in names]

    def _accumulate(self, values: Tensor, execution: str) -> Tensor:
        pad = self.kernel // 2
        if execution not in EXECUTIONS:
            raise UsageError(f"unknown execution {execution!r}")
        if self._frozen is not None and not self.training:
            w, b = self._frozen_on(values.device, "wf", "bf")
        else:
            w, b = self._fake_quantised()
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
        return rounding_shift(acc, (self.frac_in + k - self.frac_out)[:, None, None]).clamp(self.low, self.limit_out)

