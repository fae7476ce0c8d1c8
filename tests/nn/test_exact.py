"""Exact layers: executions, threads and memory layouts against the definition, on random and limit values (D1)."""

import functools
import itertools

import numpy as np
import pytest
import torch
from random_prior import STYLES, integers_of, limit_parameters, random_inputs
from torch import nn

from neuralcodec.codecs.prior import LatentPrior, exact_parts
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.bfloat16 import round_to_significant
from neuralcodec.nn.exact import ACCUMULATOR_LIMIT, ExactConv2d, ExactModule, ExactSequential
from neuralcodec.nn.fixed import Fixed, concatenate

HIDDEN = {"frac_in": 6, "limit_in": 1023, "frac_out": 6, "limit_out": 1023}
LAYERS = {
    "pointwise": {"cin": 24, "cout": 20} | HIDDEN,
    "from_symbols": {"cin": 16, "cout": 24} | HIDDEN | {"frac_in": 0, "limit_in": 127},
    "from_context": {"cin": 24, "cout": 16} | HIDDEN | {"frac_in": 2, "limit_in": 127},
    "depthwise": {"cin": 24, "cout": 24, "kernel": 3, "groups": 24} | HIDDEN,
    "dense_3x3": {"cin": 16, "cout": 16, "kernel": 3} | HIDDEN,
    "mean_head": {"cin": 24, "cout": 12} | HIDDEN | {"frac_out": 4, "limit_out": 2047, "relu": False},
}


def make_layer(name, style, seed=0, bias=True):
    layer = ExactConv2d(**LAYERS[name]).eval()
    g = torch.Generator().manual_seed(seed)
    if style == "limit":
        w, b, k = limit_parameters(layer.weight.shape, layer.frac_in, layer.limit_in, layer.frac_out, g)
    else:
        w = torch.randint(-127, 128, layer.weight.shape, generator=g)
        k = torch.randint(3, 11, (layer.cout,), generator=g)
        b = torch.randint(-100_000, 100_001, (layer.cout,), generator=g)
    layer.load_integers(w, b if bias else torch.zeros_like(b), k)
    return layer


def make_input(layer, seed=0, size=(5, 7)):
    """Batch of four: random; both limits at random; all at the upper limit; aligned with the weights of filter 0."""
    g = torch.Generator().manual_seed(seed)
    shape = (layer.cin, *size)
    low = -layer.limit_in
    random = torch.randint(low, -low + 1, shape, generator=g)
    limits = (torch.randint(0, 2, shape, generator=g) * 2 - 1) * layer.limit_in
    w = layer.integer_parameters()[0][0, :, 0, 0].sign() * layer.limit_in
    aligned = (w if layer.groups == 1 else w.repeat(layer.cin))[:, None, None].expand(shape)
    n = torch.stack([random, limits, torch.full(shape, layer.limit_in), aligned])
    return Fixed.from_integers(n, layer.frac_in, layer.limit_in)


def defined(layer, x, extra=None):
    """The definition of bitstream_spec/networks.md, section 2, position by position with Python's integers."""
    w, b, k = (t.numpy().astype(object) for t in layer.integer_parameters())
    n = x.integers.numpy().astype(object)
    batch, _, height, width = n.shape
    p = layer.kernel // 2
    padded = np.pad(n, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.zeros((batch, layer.cout, height, width), dtype=np.int64)
    for i, o, r, c in np.ndindex(*out.shape):
        window = padded[i, :, r : r + layer.kernel, c : c + layer.kernel]
        acc = (w[o] * (window if layer.groups == 1 else window[o : o + 1])).sum() + b[o]
        if extra is not None:
            acc += int(extra[i, o])
        s = layer.frac_in + k[o] - layer.frac_out
        y = (acc + (1 << (s - 1))) >> s if s > 0 else acc << -s
        out[i, o, r, c] = min(max(y, 0 if layer.relu else -layer.limit_out), layer.limit_out)
    return torch.from_numpy(out)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", LAYERS)
def test_int64_execution_is_the_definition(name, style):
    layer = make_layer(name, style)
    x = make_input(layer, size=(3, 4))
    y = layer(x, execution="int64").integers
    assert torch.equal(y, defined(layer, x))
    assert len(y.unique()) > 2  # not everything clipped


@functools.cache
def int64_case(name, style, bias, size):
    layer = make_layer(name, style, bias=bias)
    x = make_input(layer, size=size)
    return layer, x, layer(x, execution="int64").integers


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", LAYERS)
def test_executions_agree(name, style, memory_format, threads):
    for bias, size in itertools.product((True, False), ((5, 7), (12, 19))):
        layer, x, expected = int64_case(name, style, bias, size)
        x = Fixed(x.values.contiguous(memory_format=memory_format), x.frac, x.limit)
        for execution in ("float32", "float64"):
            y = layer(x, execution=execution)
            assert torch.equal(y.integers, expected), execution
            assert torch.equal(y.values.double() * 2.0**y.frac, expected.double())  # integers, not merely near


def bare_sum(kernel, groups):
    """A layer whose output is its accumulator, so that an error of one unit shows."""
    layer = ExactConv2d(32, 32, kernel, groups=groups, frac_in=0, limit_in=1023, frac_out=0, limit_out=(1 << 23) - 1,
                        relu=False).eval()
    w = torch.randint(-25, 26, layer.weight.shape, generator=torch.Generator().manual_seed(2))
    layer.load_integers(w, torch.zeros(32), torch.zeros(32))
    return layer


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 32), (3, 1)])
def test_sums_are_exact_to_the_unit(kernel, groups, threads):
    layer = bare_sum(kernel, groups)
    x = make_input(layer, size=(9, 14))
    expected = layer(x, execution="int64").integers
    assert expected.abs().max() > 1 << 16
    for execution in ("float32", "float64"):
        assert torch.equal(layer(x, execution=execution).integers, expected)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize(("kernel", "groups"), [(3, 32), (3, 1)])
def test_regression_nnpack_is_never_used(kernel, groups):
    """Without oneDNN, PyTorch gives batches of 16 to NNPACK, whose kernels are off by whole units at this size."""
    layer = bare_sum(kernel, groups)
    x = make_input(layer, size=(20, 20))
    x = Fixed(x.values.repeat(4, 1, 1, 1), x.frac, x.limit)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x).integers, layer(x, execution="int64").integers)


@pytest.mark.parametrize("name", ["pointwise", "from_symbols", "mean_head"])
def test_extra_bias(name):
    layer = make_layer(name, "random")
    x = make_input(layer, size=(2, 3))
    extra = torch.randint(-(1 << 21), (1 << 21) + 1, (4, layer.cout), generator=torch.Generator().manual_seed(1))
    expected = defined(layer, x, extra)
    for execution in ("int64", "float32", "float64"):
        assert torch.equal(layer(x, extra, execution).integers, expected)
    unit = torch.exp2(layer.exponents().double()) * 2.0**layer.frac_in
    real = ((extra.double() + 0.3) / unit).float()  # what training passes: any real number near by
    layer.train()
    assert torch.equal(layer(x, real).integers, defined(layer, x, layer.bias_to_integers(real)))


@pytest.mark.parametrize("wrong", [{"kernel": 5}, {"groups": 2}, {"limit_out": 1 << 23}])
def test_layers_that_cannot_be_exact_are_refused(wrong):
    with pytest.raises(UsageError):
        ExactConv2d(**{"cin": 4, "cout": 4} | HIDDEN | wrong)


def test_round_to_significant_is_one_rounding_to_bfloat16():
    n = torch.cat([torch.arange(-70_000, 70_001), torch.randint(-(1 << 24), 1 << 24, (20_000,))])
    assert torch.equal(round_to_significant(n, 8), n.double().to(torch.bfloat16).long())


@pytest.mark.parametrize("spread", [0.02, 1.0, 60.0])
@pytest.mark.parametrize("name", LAYERS)
def test_training_forward_equals_frozen_forward(name, spread):
    torch.manual_seed(5)
    layer = ExactConv2d(**LAYERS[name]).train()
    with torch.no_grad():
        layer.weight.normal_(0, spread * (layer.limit_in * layer.weight[0].numel()) ** -0.5)
        layer.bias.normal_(0, spread)
    x = make_input(layer)
    trained = layer(x)
    assert trained.values.requires_grad
    trained.values.square().sum().backward()
    assert layer.weight.grad.isfinite().all()
    layer.freeze()
    frozen = layer.eval()(x)
    assert torch.equal(trained.values, frozen.values)
    assert torch.equal(frozen.integers, layer(x, execution="int64").integers)


@pytest.mark.parametrize("temporal", [(), (10, 6)])
def test_training_prior_equals_frozen_prior(temporal):
    torch.manual_seed(6)
    prior = LatentPrior(12, 8, 16, 24, temporal).train()
    convs, biases = exact_parts(prior)
    assert set(biases) == {"up1_quality", "scale_quality"}
    with torch.no_grad():
        for bias, _ in biases.values():
            bias.anchors.normal_()
    z, latents, quality = random_inputs("random", 7, prior, (7, 9), temporal)
    trained = prior(z, latents, quality, (7, 9))
    for conv in convs.values():
        conv.freeze()
    for bias, conv in biases.values():
        bias.freeze(conv)
    frozen = prior.eval()(z, latents, quality, (7, 9))
    for a, b in zip(integers_of(trained), integers_of(frozen), strict=True):
        assert torch.equal(a, b)
        assert len(a.unique()) > 3


def test_freeze_and_load_round_trip():
    for sizes in LAYERS.values():
        layer = ExactConv2d(**sizes).eval()
        layer.freeze()
        w, b, k = layer.integer_parameters()
        copy = ExactConv2d(**sizes).eval()
        copy.load_integers(w.to(torch.int8), b.to(torch.int32), k.to(torch.int8))  # as a model file holds them
        x = make_input(layer)
        assert torch.equal(copy(x).values, layer(x).values)
        assert all(torch.equal(a, c) for a, c in zip(copy.integer_parameters(), (w, b, k), strict=True))


def test_bound_is_checked_to_the_unit():
    layer = ExactConv2d(2, 1, frac_in=6, limit_in=1023, frac_out=6, limit_out=1023)
    w, k = torch.full((1, 2, 1, 1), 127), torch.tensor([5])
    most = ACCUMULATOR_LIMIT - 1 - 2 * 127 * 1023 - (1 << 4)
    layer.load_integers(w, torch.tensor([-most]), k)
    with pytest.raises(UsageError):
        layer.check_extra(torch.ones(9, 1, dtype=torch.int64))
    for b in (most + 1, -most - 1):
        with pytest.raises(UsageError, match=str(ACCUMULATOR_LIMIT)):
            layer.load_integers(w, torch.tensor([b]), k)
    with torch.no_grad():
        layer.bias.fill_(2.0**19)  # too large at every exponent
    with pytest.raises(UsageError):
        layer.freeze()


@pytest.mark.parametrize(
    "change", ["minus 128", "weight 128", "exponent 15", "exponent -1", "weight shape", "bias shape"]
)
def test_bad_integers_are_refused(change):
    layer = ExactConv2d(3, 4, **HIDDEN)
    w, k = torch.ones(4, 3, 1, 1, dtype=torch.int8), torch.zeros(4, dtype=torch.int8)
    b = torch.zeros(4, dtype=torch.int32)
    layer.load_integers(w, b, k)
    if change == "minus 128":
        w[0, 0] = -128  # whose int8 absolute value is -128
    elif change == "weight 128":
        w = w.long() * 128
    elif change.startswith("exponent"):
        k[2] = int(change.split()[1])
    elif change == "weight shape":
        w = w[:1, :1]
    else:
        b = b[:1]
    with pytest.raises(UsageError):
        layer.load_integers(w, b, k)


def test_only_exact_modules_enter_the_exact_path():
    class Net(ExactModule):
        pass

    net, exact = Net(), ExactConv2d(2, 2, **HIDDEN)
    net.inner = exact
    net.add_module("again", ExactSequential(exact))
    for intruder in (nn.Conv2d(2, 2, 1), nn.ReLU(), nn.ModuleList([exact]), nn.Sequential(exact)):
        with pytest.raises(TypeError):
            net.other = intruder
        with pytest.raises(TypeError):
            net.add_module("other", intruder)
        with pytest.raises(TypeError):
            net.register_module("other", intruder)
        with pytest.raises(TypeError):
            ExactSequential(exact, intruder)
    assert [n for n, _ in net.named_children()] == ["inner", "again"]
    prior = LatentPrior(4, 4, 4, 4)
    with pytest.raises(TypeError):
        prior.fuse = nn.Conv2d(4, 4, 1)


def test_only_matching_fixed_point_tensors_enter_a_layer():
    layer = make_layer("pointwise", "random")
    x = make_input(layer)
    with pytest.raises(TypeError):
        layer(x.values)
    for wrong in (Fixed(x.values, 5, 1023), Fixed(x.values, 6, 1024), Fixed(x.values[:, :23], 6, 1023)):
        with pytest.raises(UsageError):
            layer(wrong)
    with pytest.raises(UsageError):
        layer(x, execution="float16")
    with pytest.raises(UsageError):
        Fixed.from_integers(torch.tensor([[0.5]]), 0, 127)
    with pytest.raises(UsageError):
        Fixed.from_integers(torch.zeros(1), 0, (1 << 24) + 1)
    with pytest.raises(UsageError):
        concatenate([x, Fixed(x.values, 5, 1023)])


def test_requantise_rounds_half_up_and_clamps():
    n = torch.arange(-32767, 32768)
    y = Fixed.from_integers(n[None, None, None], 4, 32767).requantise(2, 127)
    assert torch.equal(y.integers.flatten(), ((n + 2) >> 2).clamp(-127, 127))
