"""Slimmable units against plain convolutions with sliced weights, their counted work, and width selection (D3)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from neuralcodec.nn.selection import WIDTHS, WidthSelection, apply_widths, chosen_widths, units
from neuralcodec.nn.slimmable import Block, SlimmableBlock, SlimmableConv2d, SlimmableSubpixel, SlimmableTrunk, leading

CONVOLUTIONS = {
    "pointwise": (16, 16, 1, False),
    "narrowing": (32, 8, 1, False),
    "widening": (8, 32, 1, False),
    "dense": (12, 20, 3, False),
    "depthwise": (24, 24, 3, True),
    "odd_counts": (7, 5, 3, False),
}
CLOSE = {"rtol": 0, "atol": 1e-5}


class CountConvolutions(TorchFunctionMode):
    """Counts multiply-accumulates of every convolution from the shapes that reach it, knowing nothing of the layers."""

    macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            weight = args[1]
            self.macs += out.numel() // out.shape[0] * weight[0].numel()
        return out


def plain(x, conv, outputs, inputs, groups=1):
    """A separate nn.Conv2d that owns copies of the leading weights."""
    kernel = conv.kernel_size[0]
    small = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    with torch.no_grad():
        small.weight.copy_(conv.weight[:outputs, : inputs // groups])
        small.bias.copy_(conv.bias[:outputs])
    return small(x[:, :inputs])


def with_copies(computed, x, channels):
    """The copy-through rule, channel by channel."""
    out = torch.zeros(x.shape[0], channels, *computed.shape[2:])
    for c in range(channels):
        if c < computed.shape[1]:
            out[:, c] = computed[:, c]
        elif c < x.shape[1]:
            out[:, c] = x[:, c]
    return out


def sizes(channels):
    return [max(1, round(channels * w)) for w in (1.0, 0.5, 0.25)]


@pytest.mark.parametrize("option", range(3))
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_is_a_plain_one_with_sliced_weights(name, option):
    cin, cout, kernel, depthwise = CONVOLUTIONS[name]
    torch.manual_seed(1)
    layer = SlimmableConv2d(cin, cout, kernel, depthwise=depthwise)
    layer.option = option
    x = torch.randn(2, cin, 6, 5)
    n, m = sizes(cin)[option], sizes(cout)[option]
    expected = with_copies(plain(x, layer.conv, m, n, m if depthwise else 1), x, cout)
    y = layer(x)
    torch.testing.assert_close(y, expected, **CLOSE)
    if m < min(cin, cout):
        assert torch.equal(y[:, m : min(cin, cout)], x[:, m : min(cin, cout)])
    with pytest.raises(ValueError, match="depthwise"):
        SlimmableConv2d(4, 8, 3, depthwise=True)


@pytest.mark.parametrize("option", range(3))
@pytest.mark.parametrize(("cin", "cout"), [(16, 8), (8, 16), (12, 12)])
def test_subpixel_is_a_plain_convolution_and_depth_to_space(cin, cout, option):
    torch.manual_seed(2)
    layer = SlimmableSubpixel(cin, cout)
    layer.option = option
    x = torch.randn(2, cin, 3, 4)
    n, m = sizes(cin)[option], sizes(cout)[option]
    flat = plain(x, layer.conv, 4 * m, n)
    fine = torch.zeros(2, m, 6, 8)
    for i in range(2):
        for j in range(2):
            fine[:, :, i::2, j::2] = flat[:, 2 * i + j :: 4]
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(layer(x), with_copies(fine, repeated, cout), **CLOSE)


def trained(module):
    """Residual branches start at zero, where nothing can be seen; give the convolutions some weights."""
    with torch.no_grad():
        for conv in module.modules():
            if isinstance(conv, nn.Conv2d):
                conv.weight.normal_(0, 0.2)
                conv.bias.normal_(0, 0.2)
    return module


def test_a_new_block_is_the_identity():
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(SlimmableBlock(8)(x), x)
    assert torch.equal(Block(8)(x), x)


@pytest.mark.parametrize("option", range(3))
def test_block_is_a_narrow_block_beside_untouched_channels(option):
    torch.manual_seed(3)
    block = trained(SlimmableBlock(16))
    block.option = option
    x = torch.randn(2, 16, 6, 5)
    n = sizes(16)[option]
    h = x[:, :n]
    h = h + plain(F.relu(plain(h, block.mix, n, n)), block.spatial, n, n, n)
    h = h + plain(F.relu(plain(h, block.expand, 2 * n, n)), block.project, n, 2 * n)
    y = block(x)
    torch.testing.assert_close(y[:, :n], h, **CLOSE)
    assert torch.equal(y[:, n:], x[:, n:])
    assert not torch.equal(y[:, :n], x[:, :n])


def test_plain_block_is_the_full_width_one():
    torch.manual_seed(4)
    block, slimmable = trained(Block(8)), SlimmableBlock(8)
    weights = {name.removeprefix("inner."): t for name, t in block.state_dict().items()}
    assert {name for name in slimmable.state_dict() if "selection" not in name} == set(weights)  # nothing to select
    slimmable.load_state_dict(weights, strict=False)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), slimmable(x))
    assert not units(block)


@pytest.mark.parametrize("option", range(3))
@pytest.mark.parametrize("unit", [SlimmableConv2d(*v[:3], depthwise=v[3]) for v in CONVOLUTIONS.values()]
                         + [SlimmableSubpixel(16, 8), SlimmableBlock(16), SlimmableBlock(10)])
def test_stated_work_is_the_counted_work(unit, option):
    unit.option = option
    cin = getattr(unit, "cin", None) or unit.channels
    with CountConvolutions() as count, torch.no_grad():
        unit(torch.randn(2, cin, 6, 5))
    assert count.macs == unit.macs_per_position(WIDTHS[option]) * 30 > 0


def test_leading_keeps_at_least_one_channel():
    assert [leading(c, w) for c in (96, 3, 1) for w in WIDTHS] == [96, 48, 24, 3, 2, 1, 1, 1, 1]


def test_sample_is_one_hot_and_carries_a_gradient():
    torch.manual_seed(5)
    selection = WidthSelection(3)
    with torch.no_grad():
        selection.logits.copy_(torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 3.0]]))
    for level in (1, 2, 3):
        draws = torch.stack([selection.sample(level, 0.7) for _ in range(2000)])
        assert ((draws.detach() - draws.detach().round()).abs() < 1e-6).all()
        assert torch.allclose(draws.sum(1), torch.ones(2000), atol=1e-5)
        assert (draws.detach().round().amax(1) == 1).all()
        expected = torch.softmax(selection.logits[level - 1].detach(), 0)
        assert (draws.detach().mean(0) - expected).abs().max() < 0.05  # 4.5 standard deviations
    selection.zero_grad()
    (selection.sample(2, 0.7) * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    grad = selection.logits.grad
    assert grad[1].abs().sum() > 0 and grad[[0, 2]].abs().sum() == 0  # one level's draw moves that level alone


def test_choice_is_the_arg_max_of_the_level():
    selection = WidthSelection(2)
    with torch.no_grad():
        selection.logits.copy_(torch.tensor([[0.0, 1.0, 0.5], [0.0, 1.0, 5.0]]))
    assert [selection.choose(1), selection.choose(2)] == [1, 2]


def make_net():
    torch.manual_seed(6)
    return nn.Sequential(SlimmableConv2d(6, 8), nn.ReLU(), nn.Sequential(SlimmableBlock(8), SlimmableSubpixel(8, 4)))


def test_mixture_evaluates_the_sampled_width_and_reaches_the_selection():
    net = trained(make_net())
    block = net[2][0]
    x = torch.randn(1, 8, 4, 4)
    for option in range(3):
        block.mixture = F.one_hot(torch.tensor(option), 3).float()
        torch.testing.assert_close(block(x), block.run(x, WIDTHS[option]), **CLOSE)
    block.mixture = block.selection.sample(1, 1.0)
    block(x).square().sum().backward()
    assert block.selection.logits.grad[0].abs().sum() > 0


@pytest.mark.parametrize("options", [(0, 1, 2), (2, 2, 0), (1, 1, 1), (0, 0, 0)])
def test_a_trunk_without_gradients_equals_its_blocks_and_leaves_its_input(options):
    torch.manual_seed(7)
    trunk = trained(SlimmableTrunk(*(SlimmableBlock(8) for _ in options)))
    for block, option in zip(trunk, options, strict=True):
        block.option = option
    x = torch.randn(2, 8, 5, 4).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        y = trunk(x)
        expected = x
        for block in trunk:
            expected = block(expected)
    torch.testing.assert_close(y, expected, **CLOSE)
    assert torch.equal(x, before)
    torch.testing.assert_close(trunk(x), y, **CLOSE)  # the way that training takes


def test_width_table_follows_definition_order():
    net = make_net()
    assert list(units(net)) == ["0", "2.0", "2.1"]
    net[2][0].mixture = torch.tensor([1.0, 0.0, 0.0])
    apply_widths(net, bytes([0, 1, 2]))
    assert [u.option for u in units(net).values()] == [0, 1, 2]
    assert all(u.mixture is None for u in units(net).values())
    with torch.no_grad():
        for i, u in enumerate(units(net).values()):
            u.selection.logits[1, (i + 1) % 3] = 1
    assert chosen_widths(net, 2) == bytes([1, 2, 0])
    assert chosen_widths(net, 1) == bytes([0, 0, 0])


@pytest.mark.parametrize("table", [b"", bytes(2), bytes(4), bytes([0, 3, 0]), [0, -1, 0]])
def test_width_tables_that_do_not_fit_are_refused_and_change_nothing(table):
    net = make_net()
    apply_widths(net, [1, 1, 1])
    with pytest.raises(ValueError, match="width table"):
        apply_widths(net, table)
    assert [u.option for u in units(net).values()] == [1, 1, 1]


def test_widths_change_the_result_and_the_work():
    net = make_net()
    x = torch.randn(1, 6, 5, 5)
    results, work = [], []
    for option in range(3):
        apply_widths(net, [option] * 3)
        with CountConvolutions() as count, torch.no_grad():
            results.append(net(x))
        work.append(count.macs)
    assert work[0] > work[1] > work[2] > 0
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])
