"""Strided slimmable layers, and their classical start."""

from __future__ import annotations

import pytest
import torch

from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d, kept, share
from neuralcodec.nn.staged_start import cell_transform, merge, start_stages

WIDTHS = (8, 5, 3)
SIZE = (16, 24)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("kernel", "stride"), [(9, 4), (5, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("option", [0, 1, 2])
def test_a_narrow_width_is_a_layer_built_alone_with_the_leading_weights(kernel, stride, option):
    n = WIDTHS[option]
    for kind in (StageConv2d, StageTranspose2d):
        layer, alone = kind(WIDTHS, WIDTHS, kernel, stride), kind((n,), (n,), kernel, stride)
        alone.load_state_dict({"weight": layer.weight[:n, :n], "bias": layer.bias[:n]})
        x = noise(2, n, *SIZE)
        y = layer(x, option)
        assert torch.allclose(y, alone(x, 0), atol=1e-6)
        scale = 1 / stride if kind is StageConv2d else stride
        assert y.shape == (2, n, SIZE[0] * scale, SIZE[1] * scale)


@pytest.mark.parametrize(("kernel", "stride"), [(9, 4), (5, 2)])
def test_the_transposed_layer_is_the_adjoint(kernel, stride):
    down, up = StageConv2d(kept(3, WIDTHS), WIDTHS, kernel, stride), StageTranspose2d(WIDTHS, kept(3, WIDTHS), kernel, stride)
    with torch.no_grad():
        up.weight.copy_(down.weight)
        up.bias.zero_()
        down.bias.zero_()
    x, y = noise(1, 3, *SIZE), noise(1, 5, SIZE[0] // stride, SIZE[1] // stride)
    assert (down(x, 1) * y).sum().item() == pytest.approx((x * up(y, 1)).sum().item(), rel=1e-4)


def test_depthwise_layers_read_their_own_channel():
    layer = StageConv2d(WIDTHS, WIDTHS, 3, depthwise=True)
    x = noise(1, 5, *SIZE)
    y = layer(x, 1)
    x[:, 2] += 1
    assert [i for i, same in enumerate((layer(x, 1) - y).abs().amax((0, 2, 3)) == 0) if not same] == [2]


def test_shares_are_rounded_up():
    assert share((192, 9, 4), 4) == (48, 3, 1)


def test_transforms_are_orthonormal_and_low_frequencies_come_first():
    rows, channels = cell_transform(48)
    flat = rows.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(48), atol=1e-5)
    assert (channels[0].v, channels[0].h, channels[0].plane) == (0, 0, 0)
    merged, made = merge(channels, 192)
    flat = merged.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(192), atol=1e-5)
    assert [c.rank for c in made] == sorted(c.rank for c in made)


def test_merged_channels_have_the_frequency_that_they_are_said_to_have():
    """A cosine over 8 samples lies, nearly all of it, in the merged channel of its frequency."""
    rows, channels = cell_transform(48)
    merged, made = merge(channels, 192)
    at = torch.arange(8) + 0.5
    for v in range(8):
        wave = torch.zeros(1, 3, 8, 8)
        wave[:, 0] = torch.cos(torch.pi * v * at / 8)[:, None]
        cells = torch.nn.functional.conv2d(wave, rows, stride=4)
        energy = torch.nn.functional.conv2d(cells, merged, stride=2).square().flatten()
        best = made[int(energy.argmax())]
        assert (best.v, best.h, best.plane) == (v, 0, 0)
        assert float(energy.max() / energy.sum()) > 0.55


def reconstruct(stages: list[tuple[int, ...]], option: int) -> float:
    """Root mean squared error of a smooth picture after analysis and synthesis; ``stages``: the widths of each."""
    ends = [kept(3, stages[0]), *stages]
    down = [StageConv2d(a, b, k, s) for a, b, k, s in zip(ends[:3], ends[1:], (9, 5, 5), (4, 2, 2), strict=True)]
    up = [StageTranspose2d(b, a, k, s) for a, b, k, s in zip(ends[2::-1], ends[:0:-1], (5, 5, 9), (2, 2, 4), strict=True)]
    start_stages(down, up)
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    x = torch.stack([torch.sin(row / 9), torch.cos(column / 12), torch.sin((row + column) / 15)])[None] / 2
    with torch.no_grad():
        y = x
        for layer in (*down, *up):
            y = layer(y, option)
        return float((y - x).square().mean().sqrt())


def test_a_start_with_all_channels_is_lossless():
    assert reconstruct([(48,), (192,), (768,)], 0) < 1e-5


@pytest.mark.parametrize(("option", "error"), [(0, 0.045), (1, 0.07), (2, 0.085)])
def test_a_start_keeps_a_smooth_picture_better_the_wider_it_is(option, error):
    assert reconstruct([(64, 32, 16)] * 3, option) < error
