"""Sums rounded once to bfloat16, as a bfloat16 convolution gives them: in integers, and which carriers compute them (DESIGN D1).

bfloat16 has eight significant bits: it holds int8 weights and integers up to 256, and a processor with instructions for it adds their products in
float32. Those sums are integers below 2**24, so they are exact in any order, and what comes out is the exact sum rounded once, half to even.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from neuralcodec.core.errors import UsageError

SIGNIFICANT_BITS = 8
BYTE_LIMIT = 255
"""What enters a layer that rounds its sums."""
CARRIERS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}

_wanted: torch.dtype | None = None


def use_carriers(name: str) -> None:
    """For this process: the carriers of products whose sums are rounded, "float32" or "bfloat16"; "auto", as at first, is what the hardware has
    instructions for. Results are the same. Raises UsageError."""
    global _wanted
    if name not in CARRIERS:
        raise UsageError(f"unknown carriers {name!r}; choose {', '.join(CARRIERS)}")
    _wanted = CARRIERS[name]


def carrier_on(device: torch.device) -> torch.dtype:
    """The carriers on a device."""
    return _wanted or (torch.bfloat16 if _has_instructions(device) else torch.float32)


@functools.cache
def _has_instructions(device: torch.device) -> bool:
    # Without them bfloat16 is computed too, but far more slowly than float32.
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def round_to_significant(n: Tensor, bits: int = SIGNIFICANT_BITS) -> Tensor:
    """Round integers (int64) to ``bits`` significant bits, half to even: what one rounding to bfloat16 (8 bits) does."""
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
