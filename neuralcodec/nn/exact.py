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
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.fixed import CARRIER_BITS, Fixed, quantise_ste

WEIGHT_LIMIT = 127
MAX_EXPONENT = 14
ACCUMULATOR_LIMIT = 1 << CARRIER_BITS
EXECUTIONS = ("float32", "float64", "int64", "bfloat16")

# Where PyTorch has no oneDNN, it hands float32 batches of 16 and more to NNPACK, whose transform-domain convolutions are not
# exact on integers.
if torch.backends.nnpack.is_available():
    torch.backends.nnpack.set_flags(False)


class ExactModule(nn.Module):
    """Base of everything on the exact path. A child that is not itself exact is refused when it is assigned.

    Parameters may not be read by a forward pass outside the layers of this file; data travel as
    :class:`~neuralcodec.nn.fixed.Fixed`, which plain tensors cannot enter unnoticed.
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


class ExactConv2d(ExactModule):
    """Convolution over fixed-point integers, stride 1, zero padding that keeps the size.

    ``kernel`` 1 or 3; ``groups`` 1 or ``cin`` (depthwise). Inputs have ``frac_in`` fractional bits and magnitude up to ``limit_in``;
    outputs ``frac_out`` and ``limit_out``, with ReLU when ``relu``. ``accumulator`` is "exact" or "bfloat16" (acc rounded
    once, half to even). An optional per-call bias (``extra``, integers in units of the accumulator per output channel, or
    in training a real tensor) carries the quality index into the network.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, frac_in: int, limit_in: int, frac_out: int,
                 limit_out: int, relu: bool = True, accumulator: str = "exact") -> None:
        super().__init__()
        if kernel not in (1, 3) or groups not in (1, cin):
            raise UsageError("exact convolutions are pointwise or 3x3, dense or depthwise")
        if accumulator not in ("exact", "bfloat16"):
            raise UsageError(f"unknown accumulator {accumulator!r}")
        if accumulator == "bfloat16" and limit_in > 256:
            raise UsageError("a bfloat16 accumulator needs inputs that bfloat16 holds exactly (up to 256)")
        if limit_out >= ACCUMULATOR_LIMIT // 2:
            raise UsageError("outputs must leave the carrier one bit for rounding")
        self.cin, self.cout, self.kernel, self.groups = cin, cout, kernel, groups
        self.frac_in, self.limit_in, self.frac_out, self.limit_out = frac_in, limit_in, frac_out, limit_out
        self.relu, self.accumulator = relu, accumulator
        conv = nn.Conv2d(cin, cout, kernel, groups=groups)
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros(cout))
        self._frozen: dict[str, Tensor] | None = None

    # -- quantisation of the parameters -------------------------------------------------------------------------

    def exponents(self) -> Tensor:
        """k (cout,) int64: the largest exponent at which the filter fits int8 and its sum fits the carrier."""
        if self._frozen is not None:
            return self._frozen["k"]
        w = self.weight.detach().double().flatten(1)
        b = self.bias.detach().double().abs()
        peak = w.abs().amax(1).clamp_min(1e-12)
        k = torch.floor(torch.log2((WEIGHT_LIMIT + 0.49) / peak))
        # Half of the carrier is left to the rounding of the weights, the quality bias and the rounding constant.
        total = (w.abs().sum(1) * self.limit_in + b * 2.0**self.frac_in).clamp_min(1e-12)
        k = torch.minimum(k, torch.floor(torch.log2(ACCUMULATOR_LIMIT / 2 / total)))
        return k.clamp(0, MAX_EXPONENT).to(torch.int64)

    def integer_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """(w int64 (cout, cin/groups, kernel, kernel), b int64 (cout,), k int64 (cout,))."""
        if self._frozen is not None:
            return self._frozen["w"], self._frozen["b"], self._frozen["k"]
        k = self.exponents()
        scale = torch.exp2(k.double())
        w = torch.round(self.weight.detach().double() * scale[:, None, None, None]).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        b = torch.round(self.bias.detach().double() * scale * 2.0**self.frac_in)
        return w.to(torch.int64), b.to(torch.int64), k

    def freeze(self) -> None:
        """Fix the integer parameters for deployment and check the bound.

        Raises UsageError when a filter's bound reaches 2**24."""
        self._frozen = None
        w, b, k = self.integer_parameters()
        self.load_integers(w, b, k)

    def load_integers(self, w: Tensor, b: Tensor, k: Tensor) -> None:
        """Take integer parameters (from a model file) and check them; the float parameters follow them.

        Raises UsageError for a wrong shape, a value out of range or a filter whose bound reaches 2**24."""
        w, b, k = w.to(torch.int64), b.to(torch.int64), k.to(torch.int64)  # first of all: int8 has no abs(-128)
        if w.shape != self.weight.shape or b.shape != (self.cout,) or k.shape != (self.cout,):
            raise UsageError(f"exact weights {tuple(w.shape)} do not fit a layer of {tuple(self.weight.shape)}")
        if int(w.abs().max()) > WEIGHT_LIMIT or int(k.min()) < 0 or int(k.max()) > MAX_EXPONENT:
            raise UsageError("exact weights out of range")
        self._check_bound(w, b, k)
        real = torch.exp2(-k.double())
        with torch.no_grad():
            self.weight.copy_(w * real[:, None, None, None])
            self.bias.copy_(b * real * 2.0**-self.frac_in)
        self._frozen = {"w": w, "b": b, "k": k, "wf": self.weight.detach().clone(), "bf": self.bias.detach().clone()}

    def check_extra(self, extra: Tensor) -> None:
        """Check the bound for per-call biases up to |extra| (..., cout), integers. Raises UsageError."""
        w, b, k = self.integer_parameters()
        self._check_bound(w, b.abs() + extra.abs().reshape(-1, self.cout).amax(0).to(b.device), k)

    def _check_bound(self, w: Tensor, b: Tensor, k: Tensor) -> None:
        shift = self.frac_in + k - self.frac_out
        half = torch.where(shift > 0, torch.ones_like(shift) << (shift - 1).clamp_min(0), torch.zeros_like(shift))
        bound = w.abs().flatten(1).sum(1) * self.limit_in + b.abs() + half
        if int(bound.max()) >= ACCUMULATOR_LIMIT:
            raise UsageError(f"exact filter sums up to {int(bound.max())}, the carrier ends at {ACCUMULATOR_LIMIT}")

    def bias_to_integers(self, extra: Tensor) -> Tensor:
        """A real per-channel bias (..., cout) as integers in units of the accumulator, int64."""
        return torch.round(extra.detach().double() * torch.exp2(self.exponents().double()) * 2.0**self.frac_in).long()

    # -- executions -----------------------------------------------------------------------------------------------

    def forward(self, x: Fixed, extra: Tensor | None = None, execution: str = "float32") -> Fixed:
        """x (B, cin, H, W) -> (B, cout, H, W). ``extra`` (cout,) or (B, cout): integers (int64) in units of the accumulator,
        or a real tensor while training."""
        if not isinstance(x, Fixed):
            raise TypeError("exact layers take fixed-point tensors only")
        if x.frac != self.frac_in or x.limit > self.limit_in or x.values.shape[1] != self.cin:
            raise UsageError(f"exact layer expects {self.cin} channels of format (frac {self.frac_in}, limit {self.limit_in}), "
                             f"got {x.values.shape[1]} of (frac {x.frac}, limit {x.limit})")
        low = 0 if self.relu else -self.limit_out
        if execution == "int64":
            y = self._forward_int64(x, extra, low)
            return Fixed(y.to(torch.float32) * 2.0**-self.frac_out, self.frac_out, self.limit_out, not self.relu)
        acc = self._accumulate(x.values, execution)
        if extra is not None:
            if execution == "bfloat16":  # its sum is rounded already
                raise UsageError("bfloat16 carriers cannot take a per-call bias")
            acc = acc + self._real_extra(extra, acc.dtype)[..., None, None]
        if self.accumulator == "bfloat16":
            acc = _bfloat16_ste(acc)
        y = quantise_ste(acc, self.frac_out, low, self.limit_out, revive=not self.relu)
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

    def _forward_int64(self, x: Fixed, extra: Tensor | None, low: int) -> Tensor:
        w, b, k = self.integer_parameters()
        acc = conv2d_int64(x.integers, w, self.kernel // 2, self.groups) + b[:, None, None]
        if extra is not None:
            e = extra if extra.dtype == torch.int64 else self.bias_to_integers(extra)
            acc = acc + e[..., None, None]
        if self.accumulator == "bfloat16":
            acc = round_to_significant(acc, 8)
        shift = (self.frac_in + k - self.frac_out)[:, None, None]
        half = torch.where(shift > 0, torch.ones_like(shift) << (shift - 1).clamp_min(0), torch.zeros_like(shift))
        y = torch.where(shift > 0, (acc + half) >> shift.clamp_min(0), acc << (-shift).clamp_min(0))
        return y.clamp(low, self.limit_out)


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
