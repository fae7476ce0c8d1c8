"""Counters in running modules: multiply-accumulates, weights read, and memory of activations, by named part of a model.

Nothing is derived from a model's structure: hooks on the parts say which one runs, and every operator that PyTorch
executes is watched. What neuralcodec.codecs.complexity declares is held against this in a test.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.conv2d, _aten.convolution}
_TRANSPOSED = {_aten.conv_transpose2d}
_PRODUCTS = {_aten.linear}


@dataclass
class PartCount:
    """What one part did. ``macs``: multiply-accumulates of its convolutions and matrix products. ``peak_bytes``: the
    most bytes alive at one time while it ran, of tensors made in it and of what came into it (weights, and scratch
    memory inside an operator, not counted). ``weights`` holds the bytes of each slice of weights and biases that was
    read, by place."""

    macs: int = 0
    peak_bytes: int = 0
    weights: dict[tuple[int, ...], int] = field(default_factory=dict, repr=False)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and biases that were read, each counted once."""
        return sum(self.weights.values())


@dataclass
class _Call:
    """A part that runs: bytes that came into it from elsewhere, and how many of its modules are within each other."""

    name: str
    inputs: int = 0
    depth: int = 1


@dataclass
class _Memory:
    """Memory that ``tensors`` live tensors share, and the parts in which it was made."""

    size: int
    parts: tuple[str, ...]
    tensors: int = 0


class Counters(TorchDispatchMode):
    """Counts while it is entered: ``parts`` by name; "" is the whole, whose ``macs`` are those of no part.

    ``names`` maps each part to the qualified names of its modules. A part runs when any module within them runs; where
    one part lies within another, work is the inner one's alone, and memory that of both. Count in the thread that runs
    the model."""

    def __init__(self, model: nn.Module, names: Mapping[str, Iterable[str]]) -> None:
        super().__init__()
        self.parts: dict[str, PartCount] = {name: PartCount() for name in ("", *names)}
        self._modules: dict[nn.Module, str] = {}
        for path, name in sorted((path, name) for name, paths in names.items() for path in paths):
            # An inner path sorts behind the outer one that it begins with.
            self._modules |= dict.fromkeys(model.get_submodule(path).modules(), name)
        self._hooks = contextlib.ExitStack()
        self._calls = [_Call("")]
        self._alive: dict[str, int] = dict.fromkeys(self.parts, 0)
        self._memory: dict[int, _Memory] = {}

    def __enter__(self) -> Self:
        for module, name in self._modules.items():
            self._hooks.callback(module.register_forward_pre_hook(self._enter_part(name), with_kwargs=True).remove)
            self._hooks.callback(module.register_forward_hook(self._leave_part, always_call=True).remove)
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()
        super().__exit__(*exception)

    def _enter_part(self, name: str) -> Callable[[nn.Module, tuple, dict], None]:
        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if self._calls[-1].name == name:
                self._calls[-1].depth += 1
                return
            sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors((args, kwargs))}
            own = {address for address in sizes if address in self._memory and name in self._memory[address].parts}
            self._calls.append(_Call(name, sum(size for address, size in sizes.items() if address not in own)))
            self._note_peaks()

        return enter

    def _leave_part(self, module: nn.Module, args: tuple, output: object) -> None:
        self._calls[-1].depth -= 1
        if not self._calls[-1].depth:
            self._calls.pop()

    def _note_peaks(self) -> None:
        for call in self._calls:
            part = self.parts[call.name]
            part.peak_bytes = max(part.peak_bytes, self._alive[call.name] + call.inputs)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
        for tensor in tensors(result):
            self._track(tensor, known)
        if (macs := _macs(func.overloadpacket, args, result)) is not None:
            part = self.parts[self._calls[-1].name]
            part.macs += macs
            for weight in args[1:3]:
                if isinstance(weight, Tensor):
                    place = (weight.untyped_storage().data_ptr(), weight.storage_offset(), *weight.shape)
                    part.weights[place] = weight.numel() * weight.element_size()
        return result

    def _track(self, tensor: Tensor, known: set[int]) -> None:
        """Memory is alive while any tensor that shares it is. What an operator only looks at (a view of a weight) is no
        new memory."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if not address or (address in known and address not in self._memory):
            return
        if address not in self._memory:
            memory = self._memory[address] = _Memory(storage.nbytes(), tuple({call.name: None for call in self._calls}))
            for name in memory.parts:
                self._alive[name] += memory.size
            self._note_peaks()
        self._memory[address].tensors += 1
        weakref.finalize(tensor, self._release, address).atexit = False

    def _release(self, address: int) -> None:
        memory = self._memory[address]
        memory.tensors -= 1
        if not memory.tensors:
            del self._memory[address]
            for name in memory.parts:
                self._alive[name] -= memory.size


def _macs(packet: Any, args: tuple, result: Any) -> int | None:
    """Multiply-accumulates of an operator; None for one that has none."""
    if packet in _CONVOLUTIONS and not (packet is _aten.convolution and args[6]):
        return result.numel() * args[1][0].numel()
    if packet in _TRANSPOSED or packet in _CONVOLUTIONS:
        return args[0].numel() * args[1][0].numel()
    return result.numel() * args[1].shape[-1] if packet in _PRODUCTS else None


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors within arguments or results: in tuples, lists, mappings and dataclasses (fixed-point numbers are
    one)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors([getattr(value, f.name) for f in fields(value)])
