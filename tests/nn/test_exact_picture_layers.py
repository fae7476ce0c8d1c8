"""Layers of exact pictures: executions against the definition at all widths, on random and limit values."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuralcodec.core.errors import UsageError
from neuralcodec.nn import bfloat16
from neuralcodec.nn.bfloat16 import BYTE_LIMIT, carrier_on, use_carriers
from neuralcodec.nn.carriers import NARROW_LIMIT, WIDE_FRAC, WIDE_LIMIT, int64_execution, observing, requantise
from neuralcodec.nn.exact_convs import ExactHead, NarrowConv2d, WideConv2d
from neuralcodec.nn.exact_filters import rounding_half
from neuralcodec.nn.exact_gain import EXPONENT_LIMIT, STEPS, TABLE, ExactContextUnits, ExactLatentGain, ExactUnits
from neuralcodec.nn.exact_slimmable import ExactBlock, ExactPointwise, ExactSubpixel, ExactTrunk
from neuralcodec.nn.selection import WIDTHS
from neuralcodec.nn.slimmable import leading
from neuralcodec.nn.wide_input import ROW, SPARSE_CHANNELS, SPARSE_ROW, WideInput


def rounding(layer):
    layer.declare(True)
    return layer


LAYERS = {
    "mix": lambda: NarrowConv2d(20, 24, relu=True),
    "project": lambda: NarrowConv2d(24, 20),
    "spatial": lambda: NarrowConv2d(20, 20, 3, groups=20),
    "mix, rounding": lambda: rounding(NarrowConv2d(20, 24, relu=True)),
    "project, rounding": lambda: rounding(NarrowConv2d(40, 20)),
    "spatial, rounding": lambda: rounding(NarrowConv2d(20, 20, 3, groups=20)),
    "up": lambda: WideConv2d(20, 24),
    "vectors": lambda: WideConv2d(20, 2, frac_out=8, limit_out=1 << 17),
}
FORMATS = [(-4, -4), (3, 6), (8, 8), (12, 12), (-4, 12), (12, -4)]
SIZES = [(5, 7), (12, 19)]
CARRIERS = ("float32", "bfloat16")


@pytest.fixture
def any_carriers():
    yield
    use_carriers("auto")


def limit_integers(layer, generator, exponent=None):
    """Weights of the largest magnitude that leave the bias some room, and biases that fill the bound in every second filter."""
    high = min(layer.max_exponent, 20 - layer.frac_in + layer.frac_out)
    k = torch.randint(0, high + 1, (layer.cout,), generator=generator) if exponent is None else torch.full((layer.cout,), exponent)
    room = layer.accumulator_limit - 1 - rounding_half(layer.frac_in + k - layer.frac_out)
    fan_in = layer.weight[0].numel()
    peak = torch.div(room, fan_in * layer.limit_in, rounding_mode="floor").clamp_max(layer.weight_limit)
    w = signs(layer.weight.shape, generator) * peak[:, None, None, None]
    full = room - layer.accumulated(w.abs().flatten(1).sum(1) * layer.limit_in)
    return w, torch.where(torch.arange(layer.cout) % 2 == 0, full, full // 64) * signs((layer.cout,), generator), k


def random_integers(layer, generator):
    """Gains of about one from input to output, so that results spread over their range."""
    fan_in = layer.weight[0].numel()
    w = torch.randint(-layer.weight_limit // 4, layer.weight_limit // 4 + 1, layer.weight.shape, generator=generator)
    gain = layer.weight_limit / 7 * math.sqrt(fan_in) * layer.limit_in / layer.limit_out
    k = round(math.log2(gain)) + layer.frac_out - layer.frac_in
    k = torch.full((layer.cout,), min(max(k, 0), layer.max_exponent, 20 - layer.frac_in + layer.frac_out))
    return w, torch.randint(-100_000, 100_001, (layer.cout,), generator=generator), k


def signs(shape, generator):
    return torch.randint(0, 2, shape, generator=generator) * 2 - 1


def make_layer(name, style, formats=(8, 8), seed=0):
    layer = LAYERS[name]().eval()
    if isinstance(layer, NarrowConv2d):
        layer.set_format(formats[0], formats[1] if layer.relu else WIDE_FRAC)
    g = torch.Generator().manual_seed(seed)
    layer.load_integers(*(limit_integers if style == "limit" else random_integers)(layer, g))
    return layer


def make_input(cin, limit, size, low=None, seed=0):
    """int64 batch of four: random; both limits at random; all at the upper limit; all at the lower."""
    g, low = torch.Generator().manual_seed(seed), -limit if low is None else low
    shape = (cin, *size)
    random = torch.randint(low, limit + 1, shape, generator=g)
    ends = torch.where(torch.randint(0, 2, shape, generator=g).bool(), low, limit)
    return torch.stack([random, ends, torch.full(shape, limit), torch.full(shape, low)])


def carrier(n):
    return n.float().contiguous(memory_format=torch.channels_last)


def defined(layer, x, cout):
    """exact_pictures.md, section 2, position by position with Python's integers."""
    w, b, k = (t.numpy().astype(object) for t in layer.integer_parameters())
    n = x.numpy().astype(object)
    batch, cin, height, width = n.shape
    p = layer.kernel // 2
    padded = np.pad(n, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.zeros((batch, cout, height, width), dtype=np.int64)
    for i, o, r, c in np.ndindex(*out.shape):
        window = padded[i, :, r : r + layer.kernel, c : c + layer.kernel]
        acc = int(((w[o, :cin] * window) if layer.groups == 1 else w[o, 0] * window[o]).sum())
        if layer.rounds:  # eight significant bits, half to even: Python's round of a fraction
            unit = 1 << max(abs(acc).bit_length() - 8, 0)
            acc = round(Fraction(acc, unit)) * unit
        acc += b[o]
        s = layer.frac_in + k[o] - layer.frac_out
        y = (acc + (1 << (s - 1))) >> s if s > 0 else acc << -s
        out[i, o, r, c] = min(max(y, layer.low), layer.limit_out)
    return torch.from_numpy(out)


def widths(layer):
    """(input channels, output channels) to run a layer at."""
    if isinstance(layer, WideConv2d):
        return [(layer.cin, layer.cout)]
    if layer.groups > 1:
        return [(leading(layer.cin, w),) * 2 for w in WIDTHS]
    return [(leading(layer.cin, w), leading(layer.cout, w)) for w in WIDTHS]


@pytest.mark.parametrize("style", ["random", "limit"])
@pytest.mark.parametrize("name", LAYERS)
def test_int64_execution_is_the_definition(name, style):
    for formats in FORMATS[:3]:
        layer = make_layer(name, style, formats)
        cin, cout = widths(layer)[-1]
        x = make_input(cin, layer.limit_in, (3, 4))
        y = layer(x, cout)
        assert torch.equal(y, defined(layer, x, cout))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_channels_of_zeros_may_be_left_out(share):
    """With enough of them a wide convolution skips what is zero in all of a row of positions, and nothing else."""
    generator = torch.Generator().manual_seed(7)
    layer = WideConv2d(SPARSE_CHANNELS, 24).eval()
    layer.load_integers(*random_integers(layer, generator))
    x = make_input(SPARSE_CHANNELS, layer.limit_in, (9, SPARSE_ROW // 6))
    x[:, torch.rand(SPARSE_CHANNELS, generator=generator) < share] = 0
    x[0, 7, 2:] = 0  # in all rows but the first
    x[0, 5, 2, 3] = 1  # a single one keeps its channel
    given, channels = WideInput(carrier(x)[:1]), torch.arange(SPARSE_CHANNELS, dtype=torch.float64)[:, None]
    kept = [weight[:, 0].long() for _, weight in given.rows(channels)]
    flat = x[0].flatten(1).t()
    assert [k.tolist() for k in kept] == [row.any(0).nonzero()[:, 0].tolist() if share else list(range(SPARSE_CHANNELS)) for row in flat.split(SPARSE_ROW)]
    assert torch.equal(layer(carrier(x), 24).double(), layer(x, 24).double())


@pytest.mark.parametrize("cin", [20, SPARSE_CHANNELS])
def test_an_input_may_be_shared(cin, threads):
    """By layers of any kind, in every execution, and over more than one row of positions."""
    generator = torch.Generator().manual_seed(8)
    layers = WideConv2d(cin, 24).eval(), WideConv2d(cin, 3, frac_out=8, limit_out=1 << 17).eval()
    x = make_input(cin, layers[0].limit_in, (3, ROW // 6))[:2]
    x[:, ::2] = 0
    shared, defined_shared = WideInput(carrier(x)), WideInput(x)
    for layer in layers:
        trained = layer.train()(shared)
        assert trained.requires_grad
        layer.load_integers(*random_integers(layer.eval(), generator))
        assert torch.equal(layer(defined_shared), layer(x))
        assert torch.equal(layer(shared).long(), layer(x))


@pytest.mark.parametrize("style", ["random", "limit"])
@pytest.mark.parametrize("name", LAYERS)
def test_frozen_execution_is_the_definition(name, style, threads, any_carriers):
    for formats, size in itertools.product(FORMATS[:1] if name.startswith(("up", "vec")) else FORMATS[1::2] if "rounding" in name else FORMATS, SIZES):
        layer = make_layer(name, style, formats)
        for cin, cout in widths(layer):
            x = make_input(cin, layer.limit_in, size)
            expected = layer(x, cout).double()
            wide = torch.cat([x, x], 1)  # as the leading channels of more
            for given, carriers in itertools.product((carrier(x), x.float(), carrier(wide)[:, :cin]), CARRIERS if layer.rounds else CARRIERS[:1]):
                use_carriers(carriers)
                y = layer(given, cout)
                assert y.dtype == torch.float32
                assert torch.equal(y.double(), expected)
            assert torch.equal(layer(carrier(x)[1:2], cout).double(), expected[1:2])


@pytest.mark.parametrize("style", ["random", "limit"])
def test_results_of_a_layer_are_spread(style):
    """What the two tests above compare is not all clipped; at its bound a wide layer is."""
    for name in LAYERS if style == "random" else ("mix", "project", "spatial"):
        layer = make_layer(name, style)
        y = layer(make_input(layer.cin, layer.limit_in, (9, 9))).flatten()
        inside = (y > layer.low) & (y < layer.limit_out)
        assert len(y[inside].unique()) > 20, name


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 32)])
@pytest.mark.parametrize("mkldnn", [True, False])
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_sums_are_exact_to_the_unit(kernel, groups, mkldnn, threads):
    """A layer whose output is its accumulator, so that an error of one unit shows; a batch of 16 goes other ways without oneDNN."""
    layer = NarrowConv2d(32, 32, kernel, groups=groups).eval()
    layer.set_format(12, 12)
    g = torch.Generator().manual_seed(2)
    layer.load_integers(torch.randint(-25, 26, layer.weight.shape, generator=g), torch.zeros(32), torch.zeros(32))
    x = make_input(32, NARROW_LIMIT, (20, 20)).repeat(4, 1, 1, 1)
    expected = layer(x)
    assert expected.abs().max() > 1 << 18
    with torch.backends.mkldnn.flags(enabled=mkldnn):
        assert torch.equal(layer(carrier(x)).long(), expected)
        assert torch.equal(layer(x.float()).long(), expected)


@pytest.mark.parametrize("spread", [0.02, 1.0, 60.0])
@pytest.mark.parametrize("name", LAYERS)
def test_training_computes_what_is_deployed(name, spread):
    torch.manual_seed(5)
    for formats in FORMATS[:4]:
        layer = LAYERS[name]().train()
        if isinstance(layer, NarrowConv2d):
            layer.set_format(formats[0], formats[1] if layer.relu else WIDE_FRAC)
        real = layer.limit_out * 2.0**-layer.frac_out / (layer.limit_in * 2.0**-layer.frac_in)
        with torch.no_grad():
            layer.weight.normal_(0, spread * real * layer.weight[0].numel() ** -0.5)
            layer.bias.normal_(0, min(spread * real, 100.0))
        for cin, cout in widths(layer):
            x = make_input(cin, layer.limit_in, (5, 7))
            trained = layer.train()(carrier(x), cout)
            assert trained.requires_grad
            trained.square().mean().backward()
            assert layer.weight.grad.isfinite().all()
            layer.freeze()
            frozen = layer.eval()(carrier(x), cout)
            assert not frozen.requires_grad
            assert torch.equal(trained, frozen)
            assert torch.equal(frozen.long(), layer(x, cout))


def test_gradients_are_those_of_the_float_layer_inside_the_range():
    layer = NarrowConv2d(6, 5).train()
    layer.set_format(8, WIDE_FRAC)
    x = carrier(make_input(6, 2000, (4, 4))[:1]).requires_grad_()
    g = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    (layer(x) * g).sum().backward()
    twin = torch.nn.Conv2d(6, 5, 1)
    twin.load_state_dict({n: p.detach().clone() for n, p in layer.named_parameters()})
    real = (x.detach() / 256).requires_grad_()
    (twin(real) * 4096 * g).sum().backward()
    assert torch.allclose(layer.weight.grad, twin.weight.grad, rtol=1e-4)
    assert torch.allclose(layer.bias.grad, twin.bias.grad, rtol=1e-4)
    assert torch.allclose(x.grad, real.grad / 256, rtol=2e-2, atol=0.2)


def test_only_gradients_that_lead_back_pass_a_clamp():
    x = torch.tensor([-20000.0, -20000, 5, 20000, 20000], requires_grad=True)
    y = requantise(x, 1, -100, 100)
    y.backward(torch.tensor([-1.0, 1, 1, -1, 1]))
    assert y.tolist() == [-100, -100, 3, 100, 100]
    assert x.grad.tolist() == [-0.5, 0, 0.5, 0, 0.5]


@pytest.mark.parametrize("shift", range(-3, 17))
def test_requantise_is_the_definition(shift):
    n = torch.cat([torch.arange(-WIDE_LIMIT, WIDE_LIMIT + 1, 97), torch.arange(-70_000, 70_001), torch.tensor([WIDE_LIMIT, -WIDE_LIMIT])])
    expected = torch.tensor([min(max((v + (1 << shift >> 1)) >> shift if shift > 0 else v << -shift, -4095), 4095) for v in n.tolist()])
    assert torch.equal(requantise(n, shift, -4095, 4095), expected)
    assert torch.equal(requantise(n.float(), shift, -4095, 4095).long(), expected)
    assert torch.equal(requantise(n.float().requires_grad_(), shift, -4095, 4095).long(), expected)


def test_table_of_the_gains():
    assert [TABLE[i].item() for i in (0, 1, 2, 512, 1023)] == [32768, 32790, 32812, 46341, 65492]
    assert torch.equal(TABLE, torch.round(torch.exp2(15 + torch.arange(1024.0, dtype=torch.float64) / 1024)).long())


@pytest.mark.parametrize("style", ["random", "limit", "near one"])
def test_gains_agree_with_their_definition(style, threads):
    g = torch.Generator().manual_seed(3)
    table = {"random": lambda: torch.randint(-EXPONENT_LIMIT, EXPONENT_LIMIT + 1, (9, 12), generator=g),
             "limit": lambda: EXPONENT_LIMIT * signs((9, 12), g),
             "near one": lambda: torch.randint(-2000, 2000, (9, 12), generator=g)}[style]()
    units = ExactUnits(12, 0.0, 0.0).eval()
    units.load_integers({"encode": table, "decode": -table})
    for quality in (torch.tensor([0, 77, 199, 200]), torch.tensor([100])):
        for limit, scale in itertools.product((WIDE_LIMIT, 2 * WIDE_LIMIT), (units.scale, units.unscale)):
            x = make_input(12, limit, (9, 4))
            expected = scale(x, quality)
            assert torch.equal(scale(carrier(x), quality).long(), expected)
            assert torch.equal(scale(x.float(), quality).long(), expected)
    # One of them by hand, with Python's integers.
    at = table[3] * 23 + table[4] * 2  # quality 77
    for c in range(12):
        e, n = (int(at[c]) + 12) // 25, int(x[1, c, 0, 0])
        s = 15 - (e >> 10)
        product = n * TABLE[e & 1023].item()
        y = (product + (1 << (s - 1))) >> s if s > 0 else product << -s
        assert units.scale(x, torch.tensor([0, 77, 199, 200]))[1, c, 0, 0] == min(max(y, -WIDE_LIMIT), WIDE_LIMIT)


def test_factors_of_gains_are_kept_until_the_tables_change():
    gain, x = ExactLatentGain(4, 1.0, 4.0).eval().requires_grad_(False), make_input(4, 3000, (2, 3))
    tables = torch.arange(36).view(9, 4) * 100, -torch.arange(36).view(9, 4) * 70
    for table, quality in itertools.product(tables, (torch.tensor([30]), torch.tensor([31]), torch.tensor([0, 50, 120, 200]))):
        gain.load_integers({"decode": table})
        with int64_execution():
            expected = gain.unscale(x / 16, quality)
        for mode in (True, False, True):
            with torch.inference_mode(mode):
                assert torch.equal(gain.unscale(x / 16, quality).long(), expected)
    with torch.no_grad():
        gain.decode.add_(1)
    gain.load_state_dict(gain.state_dict())
    assert not torch.equal(gain.unscale(x / 16, quality).long(), expected)


def test_gains_train_as_they_are_deployed():
    torch.manual_seed(4)
    for gain in (ExactUnits(10, 1.0, 4.0), ExactLatentGain(10, 1.0, 4.0), ExactContextUnits(10, -1.0, 1.0)):
        with torch.no_grad():
            for table in (gain.encode, gain.decode):
                table.add_(torch.randn_like(table))
        quality = torch.tensor([13, 142])
        ways = {"encode": gain.scale, "decode": gain.unscale}
        for name in gain.exact:
            x = carrier(make_input(10, 3000, (4, 5))[:2])
            x = x / 16 if isinstance(gain, ExactLatentGain) else x
            trained = ways[name](x, quality)
            trained.mean().backward()
            assert (getattr(gain, name).grad != 0).any()
            gain.freeze()
            assert torch.equal(gain.eval().requires_grad_(False) and ways[name](x, quality), trained)
            with int64_execution():
                given = x if isinstance(gain, ExactLatentGain) else x.long()
                assert torch.equal(ways[name](given, quality), trained.long())
            gain.train().requires_grad_()
            ratio = trained.detach() / (x * (4096 if isinstance(gain, ExactLatentGain) else 1))
            step = getattr(gain, name).detach()
            soft = torch.exp2(torch.stack([step[0] * 12 / 25 + step[1] * 13 / 25, step[5] * 8 / 25 + step[6] * 17 / 25]))
            assert torch.allclose(ratio.flatten(2).nanmedian(2).values, soft, rtol=5e-3)


def make_unit(unit, seed=0, scale=1.0):
    """Real random parameters and formats, then frozen."""
    torch.manual_seed(seed)
    for module in unit.modules():
        if isinstance(module, NarrowConv2d | WideConv2d):
            with torch.no_grad():
                module.weight.normal_(0, scale * module.weight[0].numel() ** -0.5)
                module.bias.normal_(0, 0.3)
    for module in unit.modules():
        if isinstance(module, ExactBlock):
            module.set_formats(*torch.randint(4, 9, (4,)).tolist())
        if isinstance(module, NarrowConv2d | WideConv2d):
            module.freeze()
    return unit.eval()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("limit", [40_000, WIDE_LIMIT])
def test_units_agree_at_every_width(width, limit, threads):
    rounds = ExactBlock(12)
    for layer in (rounds.mix, rounds.expand, rounds.project):
        layer.declare(True)
    rounds.join_limits()
    for unit in (ExactBlock(12), rounds, ExactPointwise(20, 12), ExactPointwise(12, 20)):
        make_unit(unit, scale=1.0 if limit < WIDE_LIMIT else 30.0)
        x = make_input(12 if isinstance(unit, ExactBlock) else unit.cin, limit, (6, 9))
        unit.option = WIDTHS.index(width)
        expected = unit(x)
        with torch.no_grad():
            frozen = unit(carrier(x))
        assert torch.equal(frozen.long(), expected)
        assert torch.equal(unit(x.float()).long(), expected)
        assert torch.equal(unit.train()(carrier(x)).long(), expected)
        computed = leading(expected.shape[1], width)
        passed = torch.zeros_like(expected[:, computed:])
        passed[:, : max(0, x.shape[1] - computed)] = x[:, computed : expected.shape[1]]
        assert torch.equal(expected[:, computed:], passed)
        assert not torch.equal(expected[:, :computed], F.pad(x, (0, 0, 0, 0, 0, 12))[:, :computed])


@pytest.mark.parametrize("options", [(0, 0, 0), (1, 1, 2), (2, 0, 1), (2, 2, 2)])
def test_trunk_leaves_its_input_alone_and_agrees(options):
    trunk = make_unit(ExactTrunk(*(ExactBlock(16) for _ in options)))
    for block, option in zip(trunk, options, strict=True):
        block.option = option
    x = make_input(16, 100_000, (5, 8))
    given = carrier(x)
    with torch.no_grad():
        in_place = trunk(given)
    assert torch.equal(given.long(), x)
    assert torch.equal(in_place.long(), trunk(x))
    assert torch.equal(trunk.train()(given), in_place)


def test_chosen_widths_learn():
    block = make_unit(ExactBlock(8)).train()
    block.mixture = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    x = carrier(make_input(8, 40_000, (4, 4)))
    y = block(x)
    y.square().mean().backward()
    assert block.mixture.grad.abs().min() > 0
    block.mixture, block.option = None, 1
    assert torch.equal(y, block(x))


def test_subpixel_and_heads():
    up = make_unit(ExactSubpixel(10, 6))
    x = make_input(10, WIDE_LIMIT, (4, 5))
    assert torch.equal(up(carrier(x)).long(), up(x))
    assert torch.equal(up(x), F.pixel_shuffle(up.conv(x), 2))
    head = make_unit(ExactHead(10, 4, frac_out=14, limit_out=WIDE_LIMIT, unit=255.0, divisor=256.0))
    x = make_input(10, 1000, (4, 5))
    real = head(carrier(x))
    samples = (WideConv2d.forward(head, x) / 2**14).double()
    assert torch.equal(real.double() * 256, samples)
    twin = F.conv2d(x.double() / 4096, head.weight.double(), head.bias.double())
    assert torch.allclose(real.double() * 256 / 255, twin, atol=2e-3)


def test_calibration_chooses_the_finest_format_that_holds():
    layer = NarrowConv2d(4, 4)
    layer.set_format(0, WIDE_FRAC)
    with observing(), torch.no_grad():
        layer(layer.enter(torch.full((1, 4, 5, 5), 30.0 * 4096)))
        layer(layer.enter(torch.zeros(1, 4, 50, 50)))
    assert layer.calibrated(0.0) == 7  # 30 * 2**7 < 4096
    assert layer.calibrated(0.5) == 12
    assert NarrowConv2d(4, 4).calibrated(0.0) is None


def test_formats_out_of_range_are_refused():
    layer = NarrowConv2d(4, 4)
    for wrong in ((13, 12), (-5, 12), (4, 11)):
        with pytest.raises(UsageError):
            layer.set_format(*wrong)
    with pytest.raises(UsageError):
        NarrowConv2d(4, 4, relu=True).set_format(3, 13)


@pytest.mark.parametrize("name", LAYERS)
def test_bound_is_checked_to_the_unit(name):
    layer = make_layer(name, "limit")
    w, b, k = layer.integer_parameters()
    full = int(b[::2].abs().argmax()) * 2
    b = b.clone()
    b[full] += b[full].sign()
    with pytest.raises(UsageError, match="carrier ends"):
        layer.load_integers(w, b, k)
    for wrong in (torch.tensor(-(2**63)), torch.tensor(layer.accumulator_limit)):
        b[full] = wrong
        with pytest.raises(UsageError):
            layer.load_integers(w, b, k)


@pytest.mark.parametrize("inputs", [1, 264, 320])
@pytest.mark.parametrize("carriers", CARRIERS)
@pytest.mark.parametrize("mkldnn", [True, False])
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_sums_are_rounded_once_and_ties_go_to_even(inputs, carriers, mkldnn, threads, any_carriers):
    """A layer whose output is its accumulator, so that an error of one unit shows."""
    layer = rounding(NarrowConv2d(inputs, 16)).eval()
    layer.set_format(12, 12)
    g = torch.Generator().manual_seed(6)
    w = torch.randint(-127, 128, layer.weight.shape, generator=g)
    w[::4] = w[::4].abs()
    layer.load_integers(w, torch.arange(16) - 8, torch.zeros(16))
    x = make_input(inputs, BYTE_LIMIT, (15, 20))
    x[0, 1:] = 0  # single products: of 15 bits, often half-way between two values of 8
    expected = defined(layer, x[:, :, :3, :3], 16)
    products = (layer.integer_parameters()[0][:, :1, 0, 0] * x[0, :1].flatten(1)).double()
    unit = torch.exp2(torch.floor(torch.log2(products.abs().clamp_min(128))) - 7)
    assert int((products.abs() % unit == unit / 2).sum()) > 100
    use_carriers(carriers)
    with torch.backends.mkldnn.flags(enabled=mkldnn):
        y = layer(carrier(x))
    assert torch.equal(y.long(), layer(x)) and torch.equal(y.long()[:, :, :3, :3], expected)
    assert len(layer._plans) == 1 and next(iter(layer._plans.values())).weight.dtype == getattr(torch, carriers)


def test_carriers_are_those_that_the_hardware_has(monkeypatch, any_carriers):
    cpu = torch.device("cpu")
    for has in (True, False):
        bfloat16._has_instructions.cache_clear()
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert carrier_on(cpu) is (torch.bfloat16 if has and torch.backends.mkldnn.is_available() else torch.float32)
        use_carriers("float32" if has else "bfloat16")
        assert carrier_on(cpu) is (torch.float32 if has else torch.bfloat16)
        use_carriers("auto")
    bfloat16._has_instructions.cache_clear()
    with pytest.raises(UsageError, match="unknown carriers"):
        use_carriers("float16")


def test_a_declaration_travels_with_the_weights(threads):
    block, other = make_unit(ExactBlock(12)), ExactBlock(12).eval()
    for name in ("mix", "expand", "project"):
        getattr(block, name).declare(True)
    block.join_limits()
    assert [layer.limit_out for layer in (block.mix, block.expand)] == [NARROW_LIMIT, BYTE_LIMIT]
    block.set_formats(2, 5, 3, 4)
    x = make_input(12, 200_000, (6, 9))
    expected = block(x)
    other.load_state_dict(block.state_dict())
    assert [layer.rounds for layer in (other.mix, other.spatial, other.expand, other.project)] == [True, False, True, True]
    assert torch.equal(other(x), expected) and other.expand.limit_out == BYTE_LIMIT
    exact = make_unit(ExactBlock(12))
    exact.set_formats(2, 5, 3, 4)
    assert not torch.equal(exact(x), expected)
    other.load_state_dict(exact.state_dict())
    assert torch.equal(other(x), exact(x)) and other.expand.limit_out == NARROW_LIMIT


def test_new_parameters_thaw_a_frozen_layer():
    layer = make_layer("mix", "random")
    x = make_input(20, NARROW_LIMIT, (4, 4))
    before = layer(carrier(x))
    state = layer.state_dict()
    other = make_layer("mix", "random", seed=1)
    other.load_state_dict(state)
    assert torch.equal(other(carrier(x)), before)
    assert torch.equal(other(x), before.long())
    with torch.no_grad():
        other.train().weight.neg_()
    assert not torch.equal(other.eval()(carrier(x)), before)


def test_exponents_of_gains_are_checked():
    units = ExactUnits(3, 0.0, 0.0)
    for table in (torch.full((9, 3), EXPONENT_LIMIT + 1), torch.zeros(9, 4, dtype=torch.int32)):
        with pytest.raises(UsageError):
            units.load_integers({"encode": table})
    with torch.no_grad():
        units.encode.fill_(EXPONENT_LIMIT / STEPS + 1)
    with pytest.raises(UsageError):
        units.freeze()
