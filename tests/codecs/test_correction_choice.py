"""The encoder's corrections: they take away what few blocks hold of the error, and are left out where they are not worth their bits."""

import numpy as np
import pytest
import torch

from neuralcodec.codecs.correction_choice import choose_corrections
from neuralcodec.core.types import PlaneFilter
from neuralcodec.entropy.corrections import NO_CORRECTIONS, CorrectionStatistics, correction_bits
from neuralcodec.entropy.filters import USUAL
from neuralcodec.nn.loop_filter import apply_filters

NO_FILTERS = (None, None, None)
SIZE = (96, 128)


def picture(noise=1.0):
    """A flat one, and how it was decoded: a line and a box of another colour are missing, and there is noise."""
    source = torch.full((1, 1, *SIZE), 120.0), torch.full((1, 2, SIZE[0] // 2, SIZE[1] // 2), 100.0)
    generator = torch.Generator().manual_seed(1)
    real = tuple((p + noise * torch.randn(p.shape, generator=generator)).mul(2**14).round() / 2**14 for p in source)
    source[0][..., 41, 20:100] = 200.0
    source[1][:, 1, 8:12, 24:36] = 180.0
    return real, source


def errors(planes, source):
    return [float((a - b).square().sum()) for a, b in zip(planes, source, strict=True)]


def chosen(real, source, worth=0.05, filters=NO_FILTERS, size=SIZE, importance=None):
    return choose_corrections(real, source, filters, size, worth, CorrectionStatistics(), importance)


def bits(planes, size=SIZE):
    total, statistics = 0.0, CorrectionStatistics()
    for index, plane in enumerate(planes):
        if plane is not None:
            cost, statistics = correction_bits(plane, tuple(n // (8 if index else 4) for n in size), statistics)
            total += cost
    return total


def test_a_line_and_a_box_come_back():
    real, source = picture()
    planes = chosen(real, source)
    assert planes[1] is None, "U is right but for noise"
    rows, columns = np.divmod(planes[0].where, SIZE[1] // 4)
    assert set(rows.tolist()) == {10} and columns.min() == 5 and columns.max() == 24
    before, after = errors(apply_filters(*real, NO_FILTERS), source), errors(apply_filters(*real, NO_FILTERS, planes), source)
    assert after[0] < 0.1 * before[0] and after[1] < 0.1 * before[1]
    saved = 0.05 * (6 / 8 * (before[0] - after[0]) + 12 / 8 * (before[1] - after[1]))
    assert saved > 3 * bits(planes)


def test_coarser_steps_where_errors_are_worth_less():
    real, source = picture()
    found = [chosen(real, source, worth) for worth in (0.5, 0.05, 0.01)]
    steps, costs = [p[0].step for p in found], [bits(p) for p in found]
    assert steps == sorted(steps) and steps[0] < steps[-1] and costs == sorted(costs, reverse=True)
    left = [errors(apply_filters(*real, NO_FILTERS, p), source)[0] for p in found]
    assert left[0] < min(left[1:])
    assert chosen(real, source, 1e4)[0].step == 0, "there is none finer"


def test_chroma_counts_the_more_the_smaller_its_error_is_beside_lumas():
    real, source = picture()
    noise = 6.0 * torch.randn(real[0].shape, generator=torch.Generator().manual_seed(2))
    beside_more = chosen(((real[0] + noise).mul(2**14).round() / 2**14, real[1]), source)
    beside_none = chosen((source[0], real[1]), source)
    assert beside_more[2].step < beside_none[2].step


def test_a_quick_choice_is_nearly_as_good():
    real, source = picture()
    costs = []
    for thorough in (True, False):
        planes = choose_corrections(real, source, NO_FILTERS, SIZE, 0.05, CorrectionStatistics(), thorough=thorough)
        after = errors(apply_filters(*real, NO_FILTERS, planes), source)
        costs.append(bits(planes) + 0.05 * 6 / 8 * after[0])
    assert costs[0] <= 1.02 * costs[1] and costs[1] <= 1.15 * costs[0]


def test_nothing_is_sent_where_it_gains_nothing():
    real, source = picture()
    assert chosen(real, real) == NO_CORRECTIONS
    assert chosen(real, source, 1e-5) == NO_CORRECTIONS
    assert chosen(real, source, importance=torch.zeros(1, 1, 6, 8)) == NO_CORRECTIONS


def test_what_is_cut_off_has_none():
    real, source = picture()
    assert chosen(real, source, size=(40, 128))[0] is None
    assert chosen(real, source, size=(41, 128))[0] is not None, "the block of the line, row 41, begins at row 40"
    assert chosen(real, source, size=(96, 60))[0].where.max() % 32 == 14


def test_errors_are_those_after_the_loop_filters():
    """A filter that makes a line disappear leaves more to do."""
    real, source = picture(noise=0.0)
    real = source[0].clone(), real[1]
    strong = PlaneFilter(np.clip(3 * np.asarray(USUAL)[None], -31, 31).astype(np.int64))
    assert chosen(real, source)[0] is None
    planes = chosen(real, source, filters=(strong, None, None))
    assert planes[0] is not None
    filtered = [errors(apply_filters(*real, (strong, None, None), p), source)[0] for p in (NO_CORRECTIONS, planes)]
    assert filtered[1] < 0.2 * filtered[0]


@pytest.mark.parametrize("plain", [False, True])
def test_points_are_plain_and_slopes_are_not(plain):
    source = torch.full((1, 1, *SIZE), 120.0), torch.full((1, 2, SIZE[0] // 2, SIZE[1] // 2), 100.0)
    real = tuple(p.clone() for p in source)
    if plain:
        source[0][..., 5::8, 6::8] = 220.0
    else:
        source[0][..., 4:8, :] += torch.tensor([30.0, 12.0, -12.0, -30.0])[:, None]
    planes = chosen(real, source)
    assert (planes[0].plain == plain).all()
