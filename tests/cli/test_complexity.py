"""What `ncodec models` says of a decoder's work equals what the running decoder does.

The count here knows nothing of the model's structure: it watches every convolution that the decoder calls. The
interpolation filters of motion compensation are not convolutions of a network (they are sums and gathers) and enter
neither count.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from neuralcodec.codecs.coding import FlagshipCoder, Planes
from neuralcodec.codecs.complexity import complexity, part_modules, total
from neuralcodec.codecs.registry import by_name
from neuralcodec.nn.selection import apply_widths

SIZE = (64, 128)
QUALITY = 100


class CountConvolutions(TorchFunctionMode):
    """Adds up output elements times multiplications for each, over all calls of conv2d."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "").startswith("conv"):
            assert func.__name__ == "conv2d"
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.macs += result.numel() * weight[0].numel()
            self.calls += 1
        return result


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return by_name(str(tiny_model))


def picture(seed: int) -> Planes:
    values = np.random.default_rng(seed).integers(0, 256, (1, 3, *SIZE)).astype(np.float32)
    return Planes(
        torch.from_numpy(values[:, :1]), torch.from_numpy(values[:, 1:, : SIZE[0] // 2, : SIZE[1] // 2].copy())
    )


def count_decoding(coder: FlagshipCoder, kind: str, coded, previous, reference) -> CountConvolutions:
    with CountConvolutions() as count:
        parsed = coder.parse(kind, coded.payload, coded.modes, QUALITY, SIZE, previous)
        coder.reconstruct(kind, parsed, QUALITY, reference)
    return count


@pytest.mark.parametrize("level", [1, 2, 3])
def test_decoder_work_equals_a_count_on_the_running_modules(loaded, level):
    widths = loaded.widths[level - 1]
    apply_widths(loaded.model, widths)
    coder = FlagshipCoder(loaded.model)
    source = [picture(0), picture(1)]
    intra = coder.encode_intra(source[0], QUALITY, SIZE)
    inter = coder.encode_inter(source[1], QUALITY, SIZE, source[0], intra.planes, intra.parsed)
    pixels = SIZE[0] * SIZE[1]
    parts = complexity(loaded.model, widths)
    for kind, coded, previous, reference in (("I", intra, None, None), ("P", inter, intra.parsed, intra.planes)):
        count = count_decoding(coder, kind, coded, previous, reference)
        assert count.calls > 10
        assert total(parts, kind) * pixels == count.macs


def test_an_uneven_width_table_is_followed_unit_by_unit(loaded):
    widths = bytes(n % 3 for n in range(len(loaded.widths[0])))
    apply_widths(loaded.model, widths)
    coder = FlagshipCoder(loaded.model)
    intra = coder.encode_intra(picture(0), QUALITY, SIZE)
    count = count_decoding(coder, "I", intra, None, None)
    assert total(complexity(loaded.model, widths), "I") * SIZE[0] * SIZE[1] == count.macs


def test_every_parameter_belongs_to_one_part(loaded):
    prefixes = [path + "." for paths in part_modules().values() for path in paths]
    for name, _ in loaded.model.named_parameters():
        if "selection." not in name:
            assert sum(name.startswith(prefix) for prefix in prefixes) == 1, name


def test_lower_levels_cost_less_and_the_entropy_path_the_same(loaded):
    by_level = [complexity(loaded.model, widths) for widths in loaded.widths]
    for high, low in pairwise(by_level):
        for a, b in zip(high, low, strict=True):
            if a.name.endswith("prior") or a.role == "encoder":
                assert b.macs == a.macs, a.name
            else:
                assert b.macs < a.macs or a.macs == b.macs == 0, a.name  # none where no decoder reads the context


def test_a_width_table_of_another_length_is_refused(loaded):
    with pytest.raises(ValueError, match="entries"):
        complexity(loaded.model, loaded.widths[0] + b"\0")
