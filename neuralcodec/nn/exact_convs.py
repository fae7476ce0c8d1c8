"""Convolutions of exact pictures over integer-valued carriers (nn.carriers), narrow and wide; defined in bitstream_spec/exact_pictures.md, section 2.

A narrow one has int8 weights, float32 carriers and inputs of 12 bits and a sign on a grid found by calibration; a wide one, for the few layers whose
precision shows, has int16 weights, float64 carriers and takes the wide format as it is. Both keep their executions in step:

- the definition, on int64 carriers;
- the trained one: real parameters, fake-quantised, with straight-through gradients;
- the frozen one: powers of two are folded into the weights, so that sums come out in units of the output's grid, and the 1/2 of the rounding is
  in the bias; what is left to do is floor and clamp, in place, and the latter only where the filter can reach its limit.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.carriers import (
    FRACS,
    NARROW_LIMIT,
    WIDE_FRAC,
    WIDE_LIMIT,
    is_observing,
    quantise,
    replace,
    requantise,
    to_real,
)
from neuralcodec.nn.exact_filters import ExactFilters, conv2d_int64, rounding_half, rounding_shift

_EXPONENTS = 64
"""Magnitudes are counted by their power of two, 2**-40 to 2**23."""
_FIRST_EXPONENT = -40
ROWS = 512
"""Positions that a wide convolution works on at a time, so that its temporaries stay in the cache."""
SPARSE_CHANNELS = 192
"""From so many input channels on it pays to look for those that are zero; on a GPU it never does, for the CPU would have to wait."""


@dataclass(frozen=True)
class _Plan:
    """Frozen filters of a width: ``weight`` (n, m) for pointwise, (m, 1, 3, 3) for depthwise ones; what is left to do after the sum."""

    weight: Tensor
    bias: Tensor
    floor: bool
    clamp: bool


class _PictureConv(ExactFilters):
    """What both kinds share: pointwise or depthwise, slimmed to the leading channels that come in, and those that are asked for."""

    carrier = torch.float32

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, **formats) -> None:
        super().__init__(cin, cout, kernel, groups=groups, **formats)
        self._plans: dict[tuple, _Plan] = {}

    def load_integers(self, w: Tensor, b: Tensor, k: Tensor) -> None:
        super().load_integers(w, b, k)
        self._plans = {}

    def exponents(self) -> Tensor:
        """As in ExactFilters, but nothing is left over: no other bias is added to these sums."""
        if self._frozen is not None:
            return self._frozen["k"]
        w, b = self.weight.detach().double().flatten(1) * self.unit, self.bias.detach().double() * self.unit
        peak = w.abs().amax(1).clamp_min(1e-12)
        k = torch.floor(torch.log2((self.weight_limit + 0.49) / peak)).clamp(0, self.max_exponent)
        while True:
            scale = torch.exp2(k)
            sums = torch.round(w * scale[:, None]).abs().sum(1) * self.limit_in + torch.round(b * scale * 2.0**self.frac_in).abs()
            beyond = (sums + torch.exp2(k + (self.frac_in - self.frac_out - 1)) >= self.accumulator_limit) & (k > 0)
            if not bool(beyond.any()):
                return k.to(torch.int64)
            k = torch.where(beyond, k - 1, k)

    def thaw(self) -> None:
        """Let the real parameters rule again."""
        self._frozen, self._plans = None, {}

    def train(self, mode: bool = True) -> _PictureConv:
        if mode:
            self.thaw()
        return super().train(mode)

    def _load_from_state_dict(self, *args) -> None:
        super()._load_from_state_dict(*args)
        self.thaw()

    def forward(self, x: Tensor, cout: int | None = None) -> Tensor:
        """x (B, n, H, W) in the layer's input format, n <= cin -> (B, cout, H, W) in its output format."""
        cout = cout or self.cout
        if not x.is_floating_point():
            return self._defined(x, cout)
        if self._frozen is not None:
            return self._fast(x, cout)
        return self._trained(x, cout)

    def _slice(self, t: Tensor, cin: int, cout: int) -> Tensor:
        return t[:cout, :cin] if self.groups == 1 else t[:cout]

    def _defined(self, x: Tensor, cout: int) -> Tensor:
        w, b, k = (t.to(x.device) for t in self.integer_parameters())
        acc = conv2d_int64(x, self._slice(w, x.shape[1], cout), self.kernel // 2, 1 if self.groups == 1 else cout) + b[:cout, None, None]
        shift = (self.frac_in + k[:cout] - self.frac_out)[:, None, None]
        return rounding_shift(acc, shift).clamp(self.low, self.limit_out)

    def _trained(self, x: Tensor, cout: int) -> Tensor:
        w, b = self._fake_quantised()
        w = self._slice(w, x.shape[1], cout) * 2.0 ** (self.frac_out - self.frac_in)
        b = b[:cout] * 2.0**self.frac_out
        y = self._sums(x.to(self.carrier), w, b)
        return quantise(y, self.low, self.limit_out, revive=not self.relu).to(torch.float32)

    def _sums(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, w, b, padding=self.kernel // 2, groups=1 if self.groups == 1 else len(w))

    def _fake_quantised(self) -> tuple[Tensor, Tensor]:
        """Real weights and biases that equal the integers, in the carrier's type."""
        w, b = (p.to(self.carrier) * self.unit for p in (self.weight, self.bias))
        if is_observing():
            return w, b
        wi, bi, k = (t.to(w.device) for t in self.integer_parameters())
        unit = torch.exp2(-k.double())
        return (replace(w, (wi * unit[:, None, None, None]).to(self.carrier)),
                replace(b, (bi * unit * 2.0**-self.frac_in).to(self.carrier)))

    def _fast(self, x: Tensor, cout: int) -> Tensor:
        plan = self._plan(x.shape[1], cout, x.device)
        if self.groups > 1:
            # Direct sums only: other algorithms, which cuDNN may choose, are not exact on integers.
            with torch.backends.cudnn.flags(enabled=False) if x.is_cuda else nullcontext():
                return self._finish(self._sums(x, plan.weight, plan.bias), plan)
        b, n, height, width = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(-1, n)
        if self.carrier is torch.float32:
            y = self._finish(torch.addmm(plan.bias, flat, plan.weight), plan)
        else:
            y = flat.new_empty(len(flat), cout)
            flat, weight = _without_zeros(flat, plan.weight)
            for rows, out in zip(flat.split(ROWS), y.split(ROWS), strict=True):
                out.copy_(self._finish(torch.mm(rows.to(self.carrier), weight).add_(plan.bias), plan))
        return y.view(b, height, width, cout).permute(0, 3, 1, 2)

    def _finish(self, sums: Tensor, plan: _Plan) -> Tensor:
        if plan.floor:
            sums.floor_()
        if plan.clamp:
            return sums.clamp_(self.low, self.limit_out)
        return sums.relu_() if self.relu else sums

    def _plan(self, cin: int, cout: int, device: torch.device) -> _Plan:
        key = (cin, cout, device)
        if key not in self._plans:
            with torch.inference_mode(False):  # a plan outlives the call that needs it first
                self._plans[key] = self._make_plan(cin, cout, device)
        return self._plans[key]

    @torch.no_grad()
    def _make_plan(self, cin: int, cout: int, device: torch.device) -> _Plan:
        w, b, k = self.integer_parameters()
        w, b = self._slice(w, cin, cout), b[:cout]
        shift = self.frac_in + k[:cout] - self.frac_out
        half = rounding_half(shift)
        scale = torch.exp2(-shift.double())
        weight = w * scale[:, None, None, None]
        weight = weight[:, :, 0, 0].t() if self.groups == 1 else weight
        reach = rounding_shift(w.abs().flatten(1).sum(1) * self.limit_in + b.abs(), shift)
        return _Plan(weight.to(device, self.carrier).contiguous(), ((b + half) * scale).to(device, self.carrier),
                     bool((shift > 0).any()), int(reach.max()) > self.limit_out)


def _without_zeros(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x (positions, n), weight (n, m) without the channels that are zero everywhere: they add nothing, exactly. Most of a P frame's latents are."""
    if x.is_cuda or x.shape[1] < SPARSE_CHANNELS:
        return x, weight
    used = x.any(0).nonzero()[:, 0]
    if len(used) > 0.8 * x.shape[1]:
        return x, weight
    return x[:, used], weight[used]


class NarrowConv2d(_PictureConv):
    """int8 weights over 12 bits and a sign. ``format`` holds frac_in and frac_out, found by calibration, beside the weights."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, relu: bool = False) -> None:
        super().__init__(cin, cout, kernel, groups=groups, frac_in=8, limit_in=NARROW_LIMIT, frac_out=8 if relu else WIDE_FRAC,
                         limit_out=NARROW_LIMIT if relu else WIDE_LIMIT, relu=relu)
        self.register_buffer("format", torch.tensor([self.frac_in, self.frac_out], dtype=torch.int8))
        self.counts = torch.zeros(_EXPONENTS, dtype=torch.int64)
        """While observing: how many inputs have which power of two next above their magnitude."""

    def set_format(self, frac_in: int, frac_out: int) -> None:
        """Change formats; a frozen layer becomes a real one again. Raises UsageError out of range."""
        if frac_in not in FRACS or frac_out not in FRACS or (not self.relu and frac_out != WIDE_FRAC):
            raise UsageError(f"a narrow layer has no formats {frac_in}, {frac_out}")
        self.frac_in, self.frac_out = frac_in, frac_out
        self.format.copy_(torch.tensor([frac_in, frac_out]))
        self.thaw()

    def _load_from_state_dict(self, *args) -> None:
        super()._load_from_state_dict(*args)
        self.set_format(*self.format.tolist())

    def enter(self, x: Tensor) -> Tensor:
        """Wide (B, n, H, W) -> the layer's input format."""
        return requantise(x, WIDE_FRAC - self.frac_in, -self.limit_in, self.limit_in)

    def forward(self, x: Tensor, cout: int | None = None) -> Tensor:
        if is_observing():
            exponent = torch.frexp(x.detach() * 2.0**-self.frac_in)[1].sub_(_FIRST_EXPONENT).clamp_(0, _EXPONENTS - 1)
            exponent = exponent.mul_(x != 0).flatten()
            self.counts += torch.bincount(exponent, minlength=_EXPONENTS).cpu()
        return super().forward(x, cout)

    def calibrated(self, share: float) -> int | None:
        """The largest frac_in at which all observed inputs but for a share stay within the limit; None when nothing was observed."""
        total = int(self.counts.sum())
        if not total:
            return None
        above = total - self.counts.cumsum(0)
        largest = _FIRST_EXPONENT + int((above <= share * total).nonzero()[0])
        return min(max((self.limit_in + 1).bit_length() - 1 - largest, FRACS[0]), FRACS[-1])


class WideConv2d(_PictureConv):
    """int16 weights over the wide format, 1x1, never slimmed; ``unit``: see ExactFilters."""

    weight_limit = 8191
    max_exponent = 20
    accumulator_limit = 1 << 53
    file_types = (torch.int16, torch.int64, torch.int8)
    carrier = torch.float64

    def __init__(self, cin: int, cout: int, *, frac_out: int = WIDE_FRAC, limit_out: int = WIDE_LIMIT, unit: float = 1.0) -> None:
        super().__init__(cin, cout, frac_in=WIDE_FRAC, limit_in=WIDE_LIMIT, frac_out=frac_out, limit_out=limit_out, relu=False, unit=unit)


class ExactHead(WideConv2d):
    """The last layer of a decoder: its integers come out as real values (float32), with a meaning near that of the float twin's."""

    def __init__(self, cin: int, cout: int, *, frac_out: int, limit_out: int, unit: float, divisor: float) -> None:
        """``unit``: see ExactFilters. What the integers with ``frac_out`` fractional bits say is divided by ``divisor``, a power of two."""
        super().__init__(cin, cout, frac_out=frac_out, limit_out=limit_out, unit=unit)
        self.divisor_bits = int(math.log2(divisor))

    def forward(self, x: Tensor, cout: int | None = None) -> Tensor:
        return to_real(super().forward(x, cout), self.frac_out + self.divisor_bits)
