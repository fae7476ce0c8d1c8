"""Quantised filters of exact convolutions: integer weights, biases and exponents from real parameters, and the bounds that they keep (DESIGN D1).

For output channel c a filter is w[c] (integers), b[c] in units of the accumulator, and an exponent k[c]; its real weights are w[c] * 2**-k[c].
The bound ``sum |w| * limit_in + |b| + 2**(s-1)`` with ``s = frac_in + k - frac_out`` (its first term rounded, where a layer rounds its sums of
products), below the accumulator's limit for every filter, is checked at export and when a model file is read; the exponents are chosen so that it
holds. Under it a floating-point carrier computes each sum exactly, whatever the order of summation.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.fixed import CARRIER_BITS

# Where PyTorch has no oneDNN, it hands float32 batches of 16 and more to NNPACK, whose transform-domain convolutions are not
# exact on integers.
if torch.backends.nnpack.is_available():
    torch.backends.nnpack.set_flags(False)


class ExactModule(nn.Module):
    """Base of everything on the exact path. A child that is not itself exact is refused when it is assigned.

    Parameters may not be read by a forward pass outside the exact layers; data travel as :class:`~neuralcodec.nn.fixed.Fixed` on the
    entropy path, which plain tensors cannot enter unnoticed, and as integer-valued carriers within a picture (nn.exact_pictures).
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, nn.Module):
            _require_exact(value)
        super().__setattr__(name, value)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        if module is not None:
            _require_exact(module)
        super().add_module(name, module)


def _require_exact(module: nn.Module) -> None:
    if not isinstance(module, ExactModule):
        raise TypeError(f"{type(module).__name__} is not an exact module and cannot be placed on the exact path")


class ExactFilters(ExactModule):
    """Filters of one convolution, ``kernel`` 1 or 3, ``groups`` 1 or ``cin`` (depthwise), and its formats.

    Inputs have ``frac_in`` fractional bits and magnitude up to ``limit_in``; outputs ``frac_out`` and ``limit_out``, with ReLU when ``relu``.
    While training the parameters are real: ``weight`` (cout, cin/groups, kernel, kernel) and ``bias`` (cout,), in ``unit``ths of what the
    integers count (a head that gives samples keeps parameters of order one). Once frozen the integers rule.
    """

    weight_limit: ClassVar[int] = 127
    max_exponent: ClassVar[int] = 14
    accumulator_limit: ClassVar[int] = 1 << CARRIER_BITS
    file_types: ClassVar[tuple[torch.dtype, ...]] = (torch.int8, torch.int32, torch.int8)
    """Types of weight, bias and exponent in a model file."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, frac_in: int, limit_in: int, frac_out: int, limit_out: int,
                 relu: bool = True, unit: float = 1.0) -> None:
        super().__init__()
        if kernel not in (1, 3) or groups not in (1, cin):
            raise UsageError("exact convolutions are pointwise or 3x3, dense or depthwise")
        if limit_out >= (1 << CARRIER_BITS) // 2:
            raise UsageError("outputs must leave the carrier one bit for rounding")
        self.cin, self.cout, self.kernel, self.groups = cin, cout, kernel, groups
        self.frac_in, self.limit_in, self.frac_out, self.limit_out = frac_in, limit_in, frac_out, limit_out
        self.relu, self.unit = relu, unit
        conv = nn.Conv2d(cin, cout, kernel, groups=groups)
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros(cout))
        self._frozen: dict[str, Tensor] | None = None

    @property
    def low(self) -> int:
        """Least output."""
        return 0 if self.relu else -self.limit_out

    def exponents(self) -> Tensor:
        """k (cout,) int64: the largest exponent at which the filter fits its integers and its sum fits the carrier."""
        if self._frozen is not None:
            return self._frozen["k"]
        w = self.weight.detach().double().flatten(1) * self.unit
        b = self.bias.detach().double().abs() * self.unit
        peak = w.abs().amax(1).clamp_min(1e-12)
        k = torch.floor(torch.log2((self.weight_limit + 0.49) / peak))
        # Half of the carrier is left to the rounding of the weights, the quality bias and the rounding constant.
        total = (w.abs().sum(1) * self.limit_in + b * 2.0**self.frac_in).clamp_min(1e-12)
        k = torch.minimum(k, torch.floor(torch.log2(self.accumulator_limit / 2 / total)))
        return k.clamp(0, self.max_exponent).to(torch.int64)

    def integer_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """(w int64 (cout, cin/groups, kernel, kernel), b int64 (cout,), k int64 (cout,))."""
        if self._frozen is not None:
            return self._frozen["w"], self._frozen["b"], self._frozen["k"]
        k = self.exponents()
        scale = torch.exp2(k.double()) * self.unit
        w = torch.round(self.weight.detach().double() * scale[:, None, None, None]).clamp(-self.weight_limit, self.weight_limit)
        b = torch.round(self.bias.detach().double() * scale * 2.0**self.frac_in)
        return w.to(torch.int64), b.to(torch.int64), k

    def freeze(self) -> None:
        """Fix the integer parameters for deployment and check the bound.

        Raises UsageError when a filter's bound reaches the accumulator's limit."""
        self._frozen = None
        w, b, k = self.integer_parameters()
        self.load_integers(w, b, k)

    def load_integers(self, w: Tensor, b: Tensor, k: Tensor) -> None:
        """Take integer parameters (from a model file) and check them; the float parameters follow them.

        Raises UsageError for a wrong shape, a value out of range or a filter whose bound reaches the accumulator's limit."""
        w, b, k = w.to(torch.int64), b.to(torch.int64), k.to(torch.int64)  # first of all: int8 has no abs(-128)
        if w.shape != self.weight.shape or b.shape != (self.cout,) or k.shape != (self.cout,):
            raise UsageError(f"exact weights {tuple(w.shape)} do not fit a layer of {tuple(self.weight.shape)}")
        if int(w.abs().max()) > self.weight_limit or int(k.min()) < 0 or int(k.max()) > self.max_exponent:
            raise UsageError("exact weights out of range")
        if int(b.min()) <= -self.accumulator_limit or int(b.max()) >= self.accumulator_limit:  # int64 has no abs(-2**63)
            raise UsageError("exact bias out of range")
        self._check_bound(w, b, k)
        real = torch.exp2(-k.double()) / self.unit
        with torch.no_grad():
            self.weight.copy_(w * real[:, None, None, None])
            self.bias.copy_(b * real * 2.0**-self.frac_in)
        weight, bias, unit = self.weight.detach().clone(), self.bias.detach().clone(), 2.0**self.frac_out
        half = 0.5 * (self.frac_in + k - self.frac_out > 0)
        # The last two count in units of the output, with the half that rounds sums in the bias, which is within the bound too.
        self._frozen = {"w": w, "b": b, "k": k, "wf": weight, "bf": bias, "scaled": weight * unit, "rounding": bias * unit + half.to(bias)}

    def check_extra(self, extra: Tensor) -> None:
        """Check the bound for per-call biases up to |extra| (..., cout), integers. Raises UsageError."""
        w, b, k = self.integer_parameters()
        self._check_bound(w, b.abs() + extra.abs().reshape(-1, self.cout).amax(0).to(b.device), k)

    def accumulated(self, n: Tensor) -> Tensor:
        """What a layer makes of an integer sum of products (int64) before it adds the bias: nothing, or it rounds; never decreasing in n."""
        return n

    def _check_bound(self, w: Tensor, b: Tensor, k: Tensor) -> None:
        bound = self.accumulated(w.abs().flatten(1).sum(1) * self.limit_in) + b.abs() + rounding_half(self.frac_in + k - self.frac_out)
        if int(bound.max()) >= self.accumulator_limit:
            raise UsageError(f"exact filter sums up to {int(bound.max())}, the carrier ends at {self.accumulator_limit}")

    def bias_to_integers(self, extra: Tensor) -> Tensor:
        """A real per-channel bias (..., cout) as integers in units of the accumulator, int64."""
        return torch.round(extra.detach().double() * torch.exp2(self.exponents().double()) * 2.0**self.frac_in).long()


def rounding_half(shift: Tensor) -> Tensor:
    """2**(s-1) for s > 0, else 0: what is added before an arithmetic shift by s (int64), so that it rounds half up."""
    return torch.where(shift > 0, torch.ones_like(shift) << (shift - 1).clamp_min(0), torch.zeros_like(shift))


def rounding_shift(n: Tensor, shift: Tensor) -> Tensor:
    """n * 2**-s for int64 tensors, rounded half up; shifts to the left where s is negative."""
    return torch.where(shift > 0, (n + rounding_half(shift)) >> shift.clamp_min(0), n << (-shift).clamp_min(0))


def conv2d_int64(x: Tensor, w: Tensor, pad: int, groups: int) -> Tensor:
    """Plain integer convolution (B, C, H, W) -> (B, O, H, W): the definition, slow."""
    size_b, _, height, width = x.shape
    out = torch.zeros(size_b, w.shape[0], height, width, dtype=torch.int64)
    xp = F.pad(x, (pad, pad, pad, pad))
    for dy in range(w.shape[2]):
        for dx in range(w.shape[3]):
            window = xp[:, :, dy : dy + height, dx : dx + width]
            if groups == 1:
                out += torch.einsum("oc,bchw->bohw", w[:, :, dy, dx], window)
            else:
                out += w[:, 0, dy, dx][:, None, None] * window
    return out
