"""Mixed precision of training: what is rounded, what is not, and that nothing is unless it was asked for."""

import pytest
import torch
import torch.nn.functional as F

from neuralcodec.core.errors import UsageError
from neuralcodec.nn import mixed
from neuralcodec.nn.gdn import SlimGDN
from neuralcodec.nn.slimmable import Block
from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d


@pytest.fixture
def rounded():
    mixed.use_precision("bfloat16")
    yield
    mixed.use_precision("float32")


def block():
    torch.manual_seed(0)
    made = Block(16)
    for p in made.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    return made


def x(channels=16):
    return torch.randn(2, channels, 12, 12, generator=torch.Generator().manual_seed(1))


def test_at_first_nothing_is_rounded():
    w, b = torch.randn(4, 3, 5, 5), torch.randn(4)
    assert torch.equal(mixed.conv2d(x(3), w, b, 2, 2), F.conv2d(x(3), w, b, 2, 2))
    assert torch.equal(mixed.conv_transpose2d(x(4), w, b[:3], 2, 2, 1), F.conv_transpose2d(x(4), w, b[:3], 2, 2, 1))
    with pytest.raises(UsageError, match="precision"):
        mixed.use_precision("float8")


def _gradients(module, given):
    given = given.requires_grad_()
    out = module(given)
    out.square().sum().backward()
    return out.detach(), given.grad, [p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize("make", [block, lambda: _seeded(lambda: _At(StageConv2d((16,), (16,), 5, 2))), lambda: _seeded(lambda: _At(StageTranspose2d((16,), (16,), 5, 2))),
                                  lambda: _seeded(lambda: _At(SlimGDN((16,))))], ids=["block", "stage", "transposed", "gdn"])
def test_products_are_nearly_the_same_and_all_else_stays_float32(make, rounded):
    near = _gradients(make(), x())
    mixed.use_precision("float32")
    exact = _gradients(make(), x())
    assert near[0].dtype == near[1].dtype == torch.float32 and {g.dtype for g in near[2]} == {torch.float32}
    for a, b in zip((near[0], near[1], *near[2]), (exact[0], exact[1], *exact[2]), strict=True):
        assert not torch.equal(a, b) or a.abs().max() == 0
        assert (a - b).norm() <= 0.02 * b.norm()


def test_a_trunk_without_weights_passes_its_input_unrounded(rounded):
    assert torch.equal(Block(16)(x()), x())


@pytest.mark.parametrize("make", [lambda: StageConv2d((3,), (8,), 5, 2), lambda: StageConv2d((3,), (3,), 5, 2), lambda: StageTranspose2d((3,), (3,), 5, 2)])
def test_samples_of_pictures_are_not_rounded(make, rounded):
    stage = make()
    near = stage(x(3), 0)
    mixed.use_precision("float32")
    assert torch.equal(near, stage(x(3), 0))


class _At(torch.nn.Module):
    """A layer of several widths at its first."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, given):
        return self.layer(given, 0)


def _seeded(make):
    torch.manual_seed(0)
    return make()
