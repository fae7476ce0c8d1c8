"""GDN: its formula, its gradient, its inverse, and what widths share."""

from __future__ import annotations

import pytest
import torch

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.gdn import KINDS, SlimGDN, SlimGDNPlus, SwitchGDN, make_gdn

WIDTHS = (6, 4, 2)


def randomised(kind: str, inverse: bool = False) -> torch.nn.Module:
    """In double precision, with parameters that couple channels."""
    torch.manual_seed(3)
    gdn = make_gdn(kind, WIDTHS, inverse).double()
    with torch.no_grad():
        for p in gdn.parameters():
            p.copy_(0.3 + 0.5 * torch.rand_like(p))
    return gdn


def picture(channels: int) -> torch.Tensor:
    return torch.randn(2, channels, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_form_is_the_formula_with_its_parameters(kind, inverse):
    gdn = randomised(kind, inverse)
    for option, n in enumerate(WIDTHS):
        x, (beta, gamma) = picture(n), gdn.parameters_at(option)
        root = torch.sqrt(beta[:, None, None] + torch.einsum("ij,bjhw->bihw", gamma, x**2))
        assert torch.allclose(gdn(x, option), x * root if inverse else x / root, rtol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_differences(kind, inverse):
    gdn = randomised(kind, inverse)
    x = picture(4).requires_grad_()
    names = [n for n, _ in gdn.named_parameters()]

    def run(x, *values):
        # Parameters are handed in, so that their gradients are checked as well.
        return torch.func.functional_call(gdn, dict(zip(names, values, strict=True)), (x, 1))

    assert torch.autograd.gradcheck(run, (x, *gdn.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_is_the_first_step_of_an_iteration_that_inverts(kind):
    forward, back = randomised(kind), make_gdn(kind, WIDTHS, inverse=True).double()
    with torch.no_grad():
        for n, p in forward.named_parameters():
            if "beta" in n or "scale" in n:
                p.fill_(1.0)
            elif "gamma" in n and "shift" not in n:
                p.mul_(0.3)
            else:
                p.mul_(0.1)
    back.load_state_dict(forward.state_dict())
    x = 0.5 * picture(4)
    y = forward(x, 1)
    beta, gamma = forward.parameters_at(1)
    step = y
    for count in range(60):
        step = y * torch.sqrt(beta[:, None, None] + torch.einsum("ij,bjhw->bihw", gamma, step**2))
        if count == 0:
            assert torch.allclose(step, back(y, 1), rtol=1e-12)
            first = (step - x).abs().max()
    assert (step - x).abs().max() < 1e-9 < first < 0.5 * (y - x).abs().max()


def test_a_slim_width_is_a_gdn_built_alone_with_the_leading_parameters():
    gdn = randomised("slim")
    for option, n in enumerate(WIDTHS):
        alone = SlimGDN((n,)).double()
        alone.load_state_dict({"beta.root": gdn.beta.root[:n], "gamma.root": gdn.gamma.root[:n, :n]})
        assert torch.equal(alone(picture(n), 0), gdn(picture(n), option))


def test_slim_plus_without_modulation_is_slim():
    slim, plus = randomised("slim"), SlimGDNPlus(WIDTHS).double()
    plus.load_state_dict(slim.state_dict(), strict=False)
    for option, n in enumerate(WIDTHS):
        assert torch.allclose(plus(picture(n), option), slim(picture(n), option), rtol=1e-9)


def test_modulation_is_of_one_width():
    plus = SlimGDNPlus(WIDTHS).double()
    before = [plus(picture(n), option) for option, n in enumerate(WIDTHS)]
    with torch.no_grad():
        plus.gamma_scale.root[1] = 2.0
        plus.beta_shift.root[1] = 1.0
    after = [plus(picture(n), option) for option, n in enumerate(WIDTHS)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True]
    beta, gamma = (p.detach().float() for p in plus.parameters_at(1))
    assert torch.allclose(beta, torch.tensor(2.0)) and torch.allclose(gamma.diagonal(), torch.tensor(0.04))


def test_switched_widths_share_nothing():
    gdn = randomised("switch")
    assert isinstance(gdn, SwitchGDN)
    gdn(picture(4), 1).sum().backward()
    assert [any(p.grad is not None for p in one.parameters()) for one in gdn.each] == [False, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_stay_where_the_formula_needs_them(kind):
    gdn = make_gdn(kind, WIDTHS)
    with torch.no_grad():
        for p in gdn.parameters():
            p.fill_(-1.0)
    beta, gamma = (p.detach() for p in gdn.parameters_at(0))
    assert float(beta.min()) > 0 and float(gamma.min()) >= 0
    assert torch.isfinite(gdn(torch.zeros(1, 6, 1, 1), 0)).all()


def test_another_form_is_refused():
    with pytest.raises(UsageError, match="switch, slim, slim-plus"):
        make_gdn("plain", WIDTHS)
