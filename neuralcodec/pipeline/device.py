"""Where networks run, and with how many threads."""

from __future__ import annotations

import os
import re

import torch

from neuralcodec.core.errors import UsageError


def choose_device(name: str) -> torch.device:
    """"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N". Raises UsageError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(name.partition(":")[2] or 0) >= count:
        raise UsageError(f"device {name} is not available (CUDA devices found: {count})")
    return torch.device(name)


def core_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_exact(device: torch.device) -> None:
    """Turn off arithmetic that would not be exact on integers (DESIGN D1): TF32 and reduced sums on CUDA."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
