"""Capacity maps and the operators that they drive: partition, padding, channels that a block does not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.gdn import make_gdn
from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d
from neuralcodec.nn.spatially_adaptive import SAConv2d, SATConv2d

CINS, COUTS = (6, 4, 3), (7, 5, 2)
SHAPES = pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 1), (9, 4), (3, 2)])
KINDS = pytest.mark.parametrize("transposed", [False, True])


def a_map(seed: int = 1, height: int = 12, width: int = 20) -> CapacityMap:
    """Blocks of 8 with cut-off ones, on the output's grid."""
    options = np.random.default_rng(seed).integers(0, 3, (2, 3))
    options[0, :2] = 0, 2
    return CapacityMap.of_blocks(options, 8, height, width)


def layer(transposed: bool, kernel: int, stride: int):
    """Weights are small integers: sums are exact in any order, so that equal means equal to the bit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = (SATConv2d if transposed else SAConv2d)(CINS, COUTS, kernel, stride)
        with torch.no_grad():
            for p in made.parameters():
                p.copy_(torch.randint(-5, 6, p.shape).float())
    return made


def features(tcm: CapacityMap, transposed: bool, stride: int) -> torch.Tensor:
    """Integers on the input's grid, 0 in the channels that a block does not have."""
    height, width = tcm.size
    size = (height // stride, width // stride) if transposed else (height * stride, width * stride)
    x = torch.randint(-9, 10, (2, CINS[0], *size), generator=torch.Generator().manual_seed(5)).float()
    where = F.interpolate(tcm.positions()[None, None].float(), size, mode="nearest")[0, 0].long()
    return x * (torch.arange(CINS[0])[:, None, None] < torch.tensor(CINS)[where])


# -- maps ------------------------------------------------------------------------------------------------------------------


def test_a_doubled_map_is_equation_2():
    tcm = a_map()
    fine, coarse = tcm.doubled().positions(), tcm.positions()
    y, x = torch.meshgrid(torch.arange(24), torch.arange(40), indexing="ij")
    assert torch.equal(fine, coarse[y // 2, x // 2])
    assert tcm.doubled().halved() == tcm and tcm.doubled().size == (24, 40)
    with pytest.raises(UsageError, match="odd"):
        CapacityMap.of_blocks(np.zeros((1, 1), int), 8, 3, 4).halved()
    with pytest.raises(UsageError, match="blocks"):
        CapacityMap.of_blocks(np.zeros((2, 2), int), 8, 8, 8)


def test_groups_cover_the_grid_once_and_are_of_one_capacity():
    tcm = a_map()
    seen, where = torch.zeros(12, 20, dtype=torch.long), tcm.positions()
    for (option, height, width), corners in tcm.groups().items():
        for top, left in corners:
            seen[top : top + height, left : left + width] += 1
            assert (where[top : top + height, left : left + width] == option).all()
    assert (seen == 1).all()


def test_a_part_of_the_rows_has_what_they_have():
    tcm = a_map()
    for first, last in ((0, 12), (3, 9), (8, 12), (2, 5)):
        assert torch.equal(tcm.rows(first, last).positions(), tcm.positions()[first:last])


def test_present_channels_are_the_leading_ones():
    tcm = a_map()
    count = tcm.present(CINS).sum(0)
    assert torch.equal(count, torch.tensor(CINS)[tcm.positions()]) and tcm.uniform is None
    assert CapacityMap.of_blocks(np.full((2, 3), 2), 8, 12, 20).uniform == 2


# -- operators -------------------------------------------------------------------------------------------------------------


@SHAPES
@KINDS
@pytest.mark.parametrize("option", [0, 1, 2])
def test_tiles_of_a_uniform_map_equal_the_plain_operator_bit_for_bit(transposed, kernel, stride, option):
    sa = layer(transposed, kernel, stride)
    tcm = CapacityMap.of_blocks(np.full((2, 3), option), 8, 12, 20)
    x = features(tcm, transposed, stride)
    plain = (StageTranspose2d if transposed else StageConv2d).forward(sa, x[:, : CINS[option]], option)
    assert torch.equal(sa.forward_tiles(x, tcm), plain)
    assert torch.equal(sa(x, tcm), plain)


@SHAPES
@KINDS
def test_each_block_of_a_mixed_map_equals_the_plain_operator_at_its_width(transposed, kernel, stride):
    """The plain one sees the whole input, cut to the block's channels: neighbours count with what they have of them."""
    sa, tcm = layer(transposed, kernel, stride), a_map()
    x = features(tcm, transposed, stride)
    y, where = sa(x, tcm), tcm.positions()
    assert y.shape == (2, COUTS[0], 12, 20)
    for option in range(3):
        plain = (StageTranspose2d if transposed else StageConv2d).forward(sa, x[:, : CINS[option]], option)
        assert torch.equal(y[:, : COUTS[option], where == option], plain[:, :, where == option])
        assert not y[:, COUTS[option] :, where == option].any()


@KINDS
def test_normalisation_is_that_of_each_block_s_width(transposed):
    sa, tcm = layer(transposed, 5, 2), a_map()
    gdn = make_gdn("slim-plus", COUTS, inverse=transposed)
    with torch.no_grad():
        for p in gdn.parameters():
            p.add_(0.1 * torch.rand_like(p))
    x = features(tcm, transposed, 2)
    y, whole, where = sa(x, tcm, gdn), sa(x, tcm), tcm.positions()
    for option in range(3):
        plain = gdn(whole[:, : COUTS[option]], option)
        assert torch.allclose(y[:, : COUTS[option], where == option], plain[:, :, where == option], rtol=1e-4)


@KINDS
def test_a_map_without_the_widest_option_gives_fewer_channels(transposed):
    sa = layer(transposed, 5, 2)
    tcm = CapacityMap.of_blocks(np.array([[1, 2, 1], [2, 1, 1]]), 8, 12, 20)
    x = features(tcm, transposed, 2)
    y = sa(x, tcm)
    assert y.shape[1] == COUTS[1] and torch.equal(y, sa(x[:, : CINS[1]], tcm))


@KINDS
def test_gradients_reach_weights_and_inputs_of_every_width(transposed):
    sa, tcm = layer(transposed, 5, 2), a_map()
    x = features(tcm, transposed, 2).requires_grad_()
    sa(x, tcm, make_gdn("slim", COUTS, inverse=transposed)).square().sum().backward()
    assert x.grad.any() and sa.weight.grad.any(0).all() and sa.bias.grad.all()
