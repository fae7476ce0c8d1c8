"""Exact convolutions over leading channels: every execution gives the same integers, and a width is a layer of its own."""

from __future__ import annotations

import pytest
import torch

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.exact import ExactConv2d
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.leading import LeadingConv2d, WidthBias

CINS, COUTS = (12, 8, 4), (10, 6, 2)
FORMAT = {"frac_in": 6, "limit_in": 1023, "frac_out": 6, "limit_out": 1023}


def layer(kernel: int = 1, seed: int = 0, **formats: int) -> LeadingConv2d:
    torch.manual_seed(seed)
    couts = CINS if kernel == 3 else COUTS
    conv = LeadingConv2d(CINS, couts, kernel, depthwise=kernel == 3, **(FORMAT | formats))
    with torch.no_grad():
        conv.bias.normal_()
    return conv


def inputs(option: int) -> Fixed:
    n = torch.randint(0, 1024, (2, CINS[option], 5, 7), generator=torch.Generator().manual_seed(option))
    return Fixed.from_integers(n, 6, 1023, signed=False)


def biases(conv: LeadingConv2d) -> WidthBias:
    bias = WidthBias(3, conv.cout)
    with torch.no_grad():
        bias.anchors.normal_(0, 2)
    return bias


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("option", [0, 1, 2])
def test_int64_and_float32_agree_training_or_frozen(kernel, option, relu):
    conv = layer(kernel, relu=relu)
    bias, quality, x = biases(conv), torch.tensor([3, 111]), inputs(option)
    trained = conv.train()(x, option, bias(conv, quality, option)).integers
    conv.freeze()
    bias.freeze(conv)
    conv.eval()
    bias.eval()
    extra = bias(conv, quality, option)
    assert extra.dtype == torch.int64
    expected = conv(x, option, extra, execution="int64").integers
    assert torch.equal(conv(x, option, extra).integers, expected)
    assert torch.equal(trained, expected)
    assert len(expected.unique()) > 10


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("option", [0, 1, 2])
def test_a_width_is_an_exact_layer_with_the_leading_integers(kernel, option):
    conv = layer(kernel)
    conv.freeze()
    conv.eval()
    n, m = conv.channels(option)
    alone = ExactConv2d(n, m, kernel, groups=n if kernel == 3 else 1, **FORMAT).eval()
    w, b, k = conv.integer_parameters()
    alone.load_integers(w[:m] if kernel == 3 else w[:m, :n], b[:m], k[:m])
    assert torch.equal(alone(inputs(option)).integers, conv(inputs(option), option).integers)


def test_sums_at_the_limit_stay_exact():
    conv = layer()
    room = (1 << 24) - 1 - (1 << 5)
    w = torch.full(conv.weight.shape, 127)
    w[1::2] = -127
    b = torch.full((10,), room - 127 * 12 * 1023) * torch.tensor([1, -1] * 5)
    conv.load_integers(w, b, torch.full((10,), 6))
    conv.eval()
    x = Fixed.from_integers(torch.full((1, 12, 3, 3), 1023), 6, 1023, signed=False)
    assert torch.equal(conv(x, 0).integers, conv(x, 0, execution="int64").integers)
    bias = WidthBias(3, 10)
    with pytest.raises(UsageError, match="carrier"):
        bias.load_integers(torch.ones(3, 9, 10, dtype=torch.int64) * 100, conv)


def test_gradients_reach_the_leading_filters_and_the_width_s_own_bias():
    conv = layer(relu=False)
    bias = biases(conv)
    conv(inputs(1), 1, bias(conv, torch.tensor([0, 200]), 1)).values.sum().backward()
    assert conv.weight.grad[:6, :8].abs().min() > 0
    assert not conv.weight.grad[6:].any() and not conv.weight.grad[:, 8:].any()
    assert bias.anchors.grad[1, 0, :6].any() and not bias.anchors.grad[[0, 2]].any() and not bias.anchors.grad[1, :, 6:].any()


def test_inputs_of_another_format_are_refused():
    conv = layer()
    with pytest.raises(UsageError, match="8 channels"):
        conv(inputs(0), 1)
    with pytest.raises(UsageError, match="format"):
        conv(Fixed.from_integers(torch.zeros(1, 12, 2, 2), 4, 100), 0)
