"""Convolutions of exact pictures over integer-valued carriers (nn.carriers), narrow and wide; defined in bitstream_spec/exact_pictures.md, section 2.

A narrow one has int8 weights, float32 carriers and inputs of 12 bits and a sign on a grid found by calibration; a wide one, for the few layers whose
precision shows, has int16 weights, float64 carriers and takes the wide format as it is. A narrow one may declare that its sums of products are rounded
once to bfloat16 (nn.bfloat16); then its inputs have 8 bits and a sign, and bfloat16 may carry them. All keep their executions in step:

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
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.bfloat16 import BYTE_LIMIT, SIGNIFICANT_BITS, carrier_on, round_to_significant
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
from neuralcodec.nn.magnitudes import Magnitudes
from neuralcodec.nn.wide_input import WideInput

FEW_OUTPUTS = 16
"""Products of matrices that are so narrow take less time when the filters lie one behind the other."""


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
    rounds = False
    """Whether sums of products are rounded to bfloat16 before the bias is added."""

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
            sums = self.accumulated((torch.round(w * scale[:, None]).abs().sum(1) * self.limit_in).long())
            sums = sums + torch.round(b * scale * 2.0**self.frac_in).abs()
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
        acc = conv2d_int64(x, self._slice(w, x.shape[1], cout), self.kernel // 2, 1 if self.groups == 1 else cout)
        acc = self.accumulated(acc) + b[:cout, None, None]
        shift = (self.frac_in + k[:cout] - self.frac_out)[:, None, None]
        return rounding_shift(acc, shift).clamp(self.low, self.limit_out)

    def _trained(self, x: Tensor, cout: int) -> Tensor:
        w, b = self._fake_quantised()
        w = self._slice(w, x.shape[1], cout) * 2.0 ** (self.frac_out - self.frac_in)
        b = b[:cout] * 2.0**self.frac_out
        x = x.to(self.carrier)
        if self.rounds:
            y = self._sums(x, w)
            y = (y if is_observing() else replace(y, y.detach().to(torch.bfloat16).to(y.dtype))) + b[:, None, None]
        else:
            y = self._sums(x, w, b)
        return quantise(y, self.low, self.limit_out, revive=not self.relu).to(torch.float32)

    def _sums(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
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
                sums = self._sums(x, plan.weight, None if self.rounds else plan.bias)
            return self._finish(_rounded(sums, plan.bias[:, None, None]) if self.rounds else sums, plan)
        b, n, height, width = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(-1, n)
        if self.rounds:
            y = self._finish(_rounded(torch.mm(flat.to(plan.weight.dtype), plan.weight), plan.bias), plan)
        else:
            y = self._finish(torch.addmm(plan.bias, flat, plan.weight), plan)
        return y.view(b, height, width, cout).permute(0, 3, 1, 2)

    def _finish(self, sums: Tensor, plan: _Plan) -> Tensor:
        if plan.floor:
            sums.floor_()
        if plan.clamp:
            return sums.clamp_(self.low, self.limit_out)
        return sums.relu_() if self.relu else sums

    def _plan(self, cin: int, cout: int, device: torch.device) -> _Plan:
        carrier = carrier_on(device) if self.rounds and self.groups == 1 else self.carrier
        key = (cin, cout, device, carrier)
        if key not in self._plans:
            with torch.inference_mode(False):  # a plan outlives the call that needs it first
                self._plans[key] = self._make_plan(*key)
        return self._plans[key]

    @torch.no_grad()
    def _make_plan(self, cin: int, cout: int, device: torch.device, carrier: torch.dtype) -> _Plan:
        w, b, k = self.integer_parameters()
        w, b = self._slice(w, cin, cout), b[:cout]
        shift = self.frac_in + k[:cout] - self.frac_out
        half = rounding_half(shift)
        scale = torch.exp2(-shift.double())
        weight = w * scale[:, None, None, None]
        weight = weight[:, :, 0, 0].t() if self.groups == 1 else weight
        reach = rounding_shift(self.accumulated(w.abs().flatten(1).sum(1) * self.limit_in) + b.abs(), shift)
        return _Plan(self._laid_out(weight.to(device, carrier)), ((b + half) * scale).to(device, self.carrier),
                     bool((shift > 0).any()), int(reach.max()) > self.limit_out)

    def _laid_out(self, weight: Tensor) -> Tensor:
        return weight.contiguous()


def _rounded(sums: Tensor, bias: Tensor) -> Tensor:
    """Sums in bfloat16, whichever carrier they come in, and the bias added to them in float32: exact again."""
    return torch.add(bias, sums.to(torch.bfloat16))


class NarrowConv2d(_PictureConv):
    """int8 weights over 12 bits and a sign, or 8 where sums are rounded. ``format`` holds frac_in and frac_out, found by calibration, and the
    significant bits of a rounded sum, beside the weights."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, relu: bool = False) -> None:
        super().__init__(cin, cout, kernel, groups=groups, frac_in=8, limit_in=NARROW_LIMIT, frac_out=8 if relu else WIDE_FRAC,
                         limit_out=NARROW_LIMIT if relu else WIDE_LIMIT, relu=relu)
        self.register_buffer("format", self._format())
        self.magnitudes = Magnitudes()
        """Of what enters, while observing."""

    def _format(self) -> Tensor:
        return torch.tensor([self.frac_in, self.frac_out, *([SIGNIFICANT_BITS] if self.rounds else [])], dtype=torch.int8)

    def set_format(self, frac_in: int, frac_out: int) -> None:
        """Change formats; a frozen layer becomes a real one again. Raises UsageError out of range."""
        if frac_in not in FRACS or frac_out not in FRACS or (not self.relu and frac_out != WIDE_FRAC):
            raise UsageError(f"a narrow layer has no formats {frac_in}, {frac_out}")
        self.frac_in, self.frac_out = frac_in, frac_out
        self.format.copy_(self._format())
        self.thaw()

    def declare(self, rounds: bool) -> None:
        """Say whether sums are rounded, which limits inputs to BYTE_LIMIT; a frozen layer becomes a real one again."""
        self.rounds = rounds
        self.limit_in = BYTE_LIMIT if rounds else NARROW_LIMIT
        self.format = self._format().to(self.format.device)
        self.thaw()

    def accumulated(self, n: Tensor) -> Tensor:
        return round_to_significant(n) if self.rounds else n

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args) -> None:
        self.declare(len(state.get(f"{prefix}format", self.format)) > 2)
        super()._load_from_state_dict(state, prefix, *args)
        self.set_format(*self.format.tolist()[:2])

    def enter(self, x: Tensor) -> Tensor:
        """Wide (B, n, H, W) -> the layer's input format."""
        return requantise(x, WIDE_FRAC - self.frac_in, -self.limit_in, self.limit_in)

    def forward(self, x: Tensor, cout: int | None = None) -> Tensor:
        if is_observing():
            self.magnitudes.add(x, self.frac_in)
        return super().forward(x, cout)

    def calibrated(self, share: float) -> int | None:
        """The largest frac_in at which all observed inputs but for a share stay within the limit; None when nothing was observed."""
        largest = self.magnitudes.largest(share)
        return None if largest is None else min(max((self.limit_in + 1).bit_length() - 1 - largest, FRACS[0]), FRACS[-1])


class WideConv2d(_PictureConv):
    """int16 weights over the wide format, 1x1, never slimmed; ``unit``: see ExactFilters. Takes a WideInput too."""

    weight_limit = 8191
    max_exponent = 20
    accumulator_limit = 1 << 53
    file_types = (torch.int16, torch.int64, torch.int8)
    carrier = torch.float64

    def __init__(self, cin: int, cout: int, *, frac_out: int = WIDE_FRAC, limit_out: int = WIDE_LIMIT, unit: float = 1.0) -> None:
        super().__init__(cin, cout, frac_in=WIDE_FRAC, limit_in=WIDE_LIMIT, frac_out=frac_out, limit_out=limit_out, relu=False, unit=unit)

    def forward(self, x: Tensor | WideInput, cout: int | None = None) -> Tensor:
        if isinstance(x, Tensor):
            return super().forward(x, cout)
        return self._products(x, cout or self.cout) if x.x.is_floating_point() and self._frozen is not None else super().forward(x.x, cout)

    def _fast(self, x: Tensor, cout: int) -> Tensor:
        return self._products(WideInput(x), cout)

    def _products(self, given: WideInput, cout: int) -> Tensor:
        b, n, height, width = given.x.shape
        plan = self._plan(n, cout, given.x.device)
        y, first = given.x.new_empty(b * height * width, cout), 0
        for row, weight in given.rows(plan.weight):
            sums = torch.addmm(plan.bias, row, weight)
            y[first : (first := first + len(row))].copy_(sums.floor_() if plan.floor else sums)
        if plan.clamp:  # what float32 does not hold exactly lies beyond the limit, and stays there
            y.clamp_(self.low, self.limit_out)
        return y.view(b, height, width, cout).permute(0, 3, 1, 2)

    def _laid_out(self, weight: Tensor) -> Tensor:
        return weight.t().contiguous().t() if weight.shape[1] <= FEW_OUTPUTS else weight.contiguous()


class ExactHead(WideConv2d):
    """The last layer of a decoder: its integers come out as real values (float32), with a meaning near that of the float twin's."""

    def __init__(self, cin: int, cout: int, *, frac_out: int, limit_out: int, unit: float, divisor: float) -> None:
        """``unit``: see ExactFilters. What the integers with ``frac_out`` fractional bits say is divided by ``divisor``, a power of two."""
        super().__init__(cin, cout, frac_out=frac_out, limit_out=limit_out, unit=unit)
        self.divisor_bits = int(math.log2(divisor))

    def forward(self, x: Tensor | WideInput, cout: int | None = None) -> Tensor:
        n, frac = super().forward(x, cout), self.frac_out + self.divisor_bits
        # In place where nothing else has a hold on the integers.
        return to_real(n, frac) if n.requires_grad or not n.is_floating_point() else n.mul_(2.0**-frac)


class ExactSubpixelHead(nn.Module):
    """A head at twice the resolution of its input: wide (B, cin, H, W) or WideInput -> real (B, cout, 2H, 2W)."""

    def __init__(self, cin: int, cout: int, **formats: float) -> None:
        """``formats``: as in ExactHead."""
        super().__init__()
        self.conv = ExactHead(cin, 4 * cout, **formats)

    def forward(self, x: Tensor | WideInput) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)
