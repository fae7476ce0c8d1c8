"""Interpolation between anchor qualities: integers against real numbers, and the tables of exact layers."""

import pytest
import torch

from neuralcodec.core.errors import UsageError
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.exact import ExactConv2d
from neuralcodec.nn.quality import ANCHORS, SPAN, QualityBias, QualityGain, interpolate, interpolate_integers

ALL = torch.arange(QUALITY_STEPS + 1)


def table(seed=0, channels=6, limit=1 << 21):
    return torch.randint(-limit, limit + 1, (ANCHORS, channels), generator=torch.Generator().manual_seed(seed))


def test_anchors_come_back():
    t = table()
    at = torch.arange(ANCHORS) * SPAN
    assert at[-1] == QUALITY_STEPS
    assert torch.equal(interpolate_integers(t, at), t)
    assert torch.equal(interpolate(t.double(), at), t.double())


def test_integers_are_the_real_values_rounded_half_up():
    """With an odd span there are no ties, so the rounding is to the nearest."""
    t = table(1, limit=300)
    n = interpolate_integers(t, ALL)
    assert n.dtype == torch.int64
    for q in range(QUALITY_STEPS + 1):
        a = min(q // SPAN, ANCHORS - 2)
        r = q - a * SPAN
        for c in range(t.shape[1]):
            assert int(n[q, c]) == (int(t[a, c]) * (SPAN - r) + int(t[a + 1, c]) * r + SPAN // 2) // SPAN
    assert (n - interpolate(t.double(), ALL)).abs().max() < 0.5


def test_monotone_anchors_interpolate_monotonically():
    t = table(2, limit=1000).sort(0).values
    assert (interpolate_integers(t, ALL).diff(dim=0) >= 0).all()
    assert (interpolate(t.double(), ALL).diff(dim=0) >= -1e-9).all()


def test_result_stays_between_the_anchors():
    t = table(3)
    n = interpolate_integers(t, ALL)
    assert (n <= t.amax(0)).all() and (n >= t.amin(0)).all()


def test_quality_outside_the_range_is_the_nearest_end():
    t = table(4)
    assert torch.equal(interpolate_integers(t, torch.tensor([-3, 999])), t[[0, -1]])


def test_gain_undoes_itself_and_grows():
    gain = QualityGain(5, 1.0, 5.0)
    y = torch.randn(201, 5, 2, 2)
    scaled = gain.scale(y, ALL)
    assert torch.allclose(gain.unscale(scaled, ALL), y, atol=1e-5)
    assert (scaled.abs().flatten(1).sum(1) / y.abs().flatten(1).sum(1)).diff().gt(0).all()


def make_bias():
    conv = ExactConv2d(3, 6, frac_in=6, limit_in=1023, frac_out=6, limit_out=1023)
    bias = QualityBias(6)
    with torch.no_grad():
        bias.anchors.copy_(torch.linspace(-2, 2, ANCHORS * 6).reshape(ANCHORS, 6))
    return conv, bias


def test_trained_bias_equals_the_frozen_integers():
    conv, bias = make_bias()
    trained = bias.train()(conv, ALL)
    assert trained.requires_grad
    unit = torch.exp2(conv.exponents().double()) * 2.0**conv.frac_in
    conv.freeze()
    bias.freeze(conv)
    frozen = bias.eval()(conv, ALL)
    assert frozen.dtype == torch.int64
    assert torch.equal(torch.round(trained.detach().double() * unit).long(), frozen)
    assert torch.equal(frozen[::SPAN], bias.integers(conv))
    copy = QualityBias(6).eval()
    copy.load_integers(bias.integers(conv).to(torch.int32), conv)
    assert torch.equal(copy(conv, ALL), frozen)


@pytest.mark.parametrize("bad", ["shape", "limit", "bound"])
def test_bad_tables_are_refused(bad):
    conv, bias = make_bias()
    conv.load_integers(torch.zeros(6, 3, 1, 1), torch.full((6,), 15_000_000), torch.zeros(6))
    good = torch.full((ANCHORS, 6), 1_000_000)
    bias.load_integers(good, conv)
    with pytest.raises(UsageError):
        bias.load_integers({"shape": good[:1], "limit": good * 3, "bound": good * 2}[bad], conv)
