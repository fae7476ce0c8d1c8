"""Counters in running modules: against work and memory known by hand, and against what the codec declares of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuralcodec.bench.tables_counters import Counters
from neuralcodec.bench.tables_counting import CONTEXT_ENCODER, count_coding, count_frames, table_parts
from neuralcodec.codecs.complexity import ENCODER, complexity, part_modules
from neuralcodec.codecs.files import load_model

SIZE = (64, 128)
CONTEXT = ("feature extraction", "context refinement")


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model)


def count(model: nn.Module, x: torch.Tensor, **names: list[str]) -> Counters:
    with torch.inference_mode(), Counters(model, names) as counters:
        model(x)
    return counters
def uneven(loaded) -> bytes:
    return bytes(n % 3 for n in range(len(loaded.widths[0])))


@pytest.mark.parametrize(
    "widths", [lambda m: m.widths[0], lambda m: m.widths[2], uneven], ids=["level 1", "level 3", "uneven"]
)
def test_hooks_count_what_the_codec_declares(loaded, widths):
    table = widths(loaded)
    counted = count_coding(loaded, table, count_frames(SIZE), part_modules())
    declared = {part.name: part for part in complexity(loaded.model, table)}
    assert counted.size == SIZE
    assert list(counted.parts) == ["encode I", "encode P", "decode I", "decode P"]
    for what, parts in counted.parts.items():
        verb, kind = what.split()
        assert parts.keys() == {"", *declared}
        # Every convolution belongs to a part, but for the sums of the encoder's motion search.
        assert (parts[""].macs == 0) == (what != "encode P")
        for name, part in declared.items():
            if what == "encode P" and name in CONTEXT:  # the encoder reads the context at any width
                assert parts[name].macs >= part.macs * SIZE[0] * SIZE[1] and parts[name].macs > 0
                continue
            encoder_of_kind = verb == "encode" and part.role == ENCODER and (name.startswith("intra") == (kind == "I"))
            expected = part.macs * SIZE[0] * SIZE[1] if part.role == kind or encoder_of_kind else 0
            if what == "encode P" and name in ("motion prior", "motion decoder", "motion refinement"):
                expected *= 2  # once to choose the mask of all parts or to correct the vectors' latents, once to code them
            if what == "encode P" and name == "motion encoder":  # corrected latents have hyper latents of their own
                assert expected < parts[name].macs < 2 * expected
                continue
            assert parts[name].macs == expected, (verb, kind, name)


def test_counts_grow_with_the_number_of_samples(loaded):
    small, large = (
        count_coding(loaded, loaded.widths[1], count_frames(s), table_parts(loaded)) for s in ((64, 64), (128, 192))
    )
    for what, parts in small.parts.items():
        for name, part in parts.items():
            other = large.parts[what][name]
            if what == "encode P" and not name:  # motion search: its borders are not in proportion
                assert 4 * part.macs < other.macs < 7 * part.macs
                continue
            assert (other.macs, other.weight_bytes) == (6 * part.macs, part.weight_bytes)
            if name:  # the quality index and what follows from it have no position
                assert other.peak_bytes == pytest.approx(6 * part.peak_bytes, abs=6 * 1000)
            else:  # motion compensation works in strips, which do not grow with the height
                assert 0 < part.peak_bytes < other.peak_bytes <= 6 * part.peak_bytes


def test_narrow_widths_read_fewer_weights_and_need_less_memory(loaded):
    wide, narrow = (
        count_coding(loaded, t, count_frames(SIZE), table_parts(loaded)).of("decode", "P")
        for t in (loaded.widths[0], loaded.widths[2])
    )
    for name in ("motion decoder", "contextual decoder"):
        assert 0 < narrow[name].weight_bytes < wide[name].weight_bytes
        assert 0 < narrow[name].peak_bytes < wide[name].peak_bytes
    assert narrow["feature extraction"].weight_bytes == 0 < wide["feature extraction"].weight_bytes  # nothing reads the context there
    assert narrow[CONTEXT_ENCODER] == wide[CONTEXT_ENCODER]


def test_weights_at_full_width_are_all_weights(loaded):
    parts = count_coding(loaded, bytes(len(loaded.widths[0])), count_frames(SIZE), part_modules()).of("decode", "P")
    extraction = loaded.model.inter.extraction
    expected = 4 * sum(p.numel() for name, p in extraction.named_parameters() if "selection" not in name)
    assert parts["feature extraction"].weight_bytes == expected


def test_work_of_convolutions_and_products_known_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 2, 4, stride=2),
        nn.Flatten(2),
        nn.Linear(14 * 14, 5),
    )
    counters = count(model, torch.zeros(1, 3, 16, 16), a=["0"], b=["1"], c=["2"], d=["4"])
    expected = {"a": 8 * 8 * 8 * 3 * 9, "b": 6 * 6 * 8 * 9, "c": 8 * 6 * 6 * 2 * 16, "d": 2 * 5 * 14 * 14, "": 0}
    assert {name: part.macs for name, part in counters.parts.items()} == expected


def test_peak_memory_known_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    counters = count(model, torch.zeros(1, 1, 8, 8), all=[""], first=["0"])
    picture = 8 * 8 * 4
    assert counters.parts["all"].peak_bytes == (1 + 4 + 4) * picture  # the input, and both sides of the ReLU
    assert counters.parts["first"].peak_bytes == (1 + 4) * picture
    assert counters.parts[""].peak_bytes == (4 + 4) * picture  # made within; the input was there before
    assert (
        counters.parts["all"].weight_bytes == (8 + 2) * 4
    )  # the second convolution's: the first is counted on its own
    assert counters.parts["first"].weight_bytes == (4 + 4) * 4


def test_views_and_changes_in_place_are_no_new_memory():
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.conv2d(x[:, :2], self.conv.weight[:2, :2])
            y[:, :1].mul_(2)
            for _ in range(3):  # freed each time
                y.add(1)
            return y.view(-1)

    counters = count(Views(), torch.zeros(1, 4, 8, 8), all=[""])
    picture = 8 * 8 * 4
    assert counters.parts["all"].peak_bytes == (4 + 2 + 2) * picture
    assert counters.parts["all"].weight_bytes == 2 * 2 * 4


def test_a_weight_read_twice_counts_once_and_inner_parts_count_alone():
    conv = nn.Conv2d(2, 2, 1, bias=False)
    counters = count(
        nn.Sequential(nn.Sequential(conv, conv), nn.Conv2d(2, 1, 1)), torch.zeros(1, 2, 4, 4), outer=[""], inner=["0"]
    )
    assert counters.parts["inner"].macs == 2 * 16 * 4
    assert counters.parts["inner"].weight_bytes == 4 * 4
    assert counters.parts["outer"].macs == 16 * 2
    assert counters.parts["outer"].peak_bytes >= counters.parts["inner"].peak_bytes


def test_no_hook_stays_even_after_an_error(loaded):
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    model = Fails()
    with pytest.raises(RuntimeError, match="broken"):
        count(model, torch.zeros(1), all=[""])
    count_coding(loaded, loaded.widths[0], count_frames((64, 64)), table_parts(loaded))
    for module in (model, *loaded.model.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
