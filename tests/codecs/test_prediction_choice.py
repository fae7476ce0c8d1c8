"""An encoder's choices of predictions: they pay, and are left alone where they would not."""

import numpy as np
import torch

from neuralcodec.codecs.prediction_choice import choose_predictions
from neuralcodec.entropy.choices import ChoiceStatistics
from neuralcodec.nn.hypotheses import (
    FIRST_LONG,
    FIRST_SECOND,
    STILL,
    Doubled,
    Past,
    Step,
    apply_choices,
    predict,
    ways_back,
)

SIZE = (64, 96)


def noise(seed, scale):
    return torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) * scale


def flat():
    return torch.full((1, 2, SIZE[0] // 2, SIZE[1] // 2), 128.0)


def texture():
    return noise(0, 40.0).add(128).clamp(0, 255).round()


def still_vectors(value=0):
    return torch.full((1, 2, SIZE[0] // 8, SIZE[1] // 8), value, dtype=torch.int32)


def chosen(y, first, past=None, worth=0.02):
    ways = ways_back(first, past or Past())
    choices, planes = choose_predictions(y, flat(), ways, worth, None, ChoiceStatistics())
    # What a decoder will make of them.
    assert all(map(torch.equal, planes, apply_choices(predict(first), torch.from_numpy(choices), ways)))
    return choices


def test_two_noisy_pictures_are_averaged():
    clean = texture()
    first = Step(still_vectors(), Doubled(clean + noise(1, 4.0), flat()))
    before = Step(still_vectors(), Doubled(clean + noise(2, 4.0), flat()))
    assert (chosen(clean, first, Past((before,), (first,), False)) == FIRST_SECOND).mean() > 0.7
    assert (chosen(clean, first, Past((first,), (before,), False)) == FIRST_LONG).mean() > 0.7


def test_what_stands_still_is_not_moved():
    y = texture()
    vectors = still_vectors()
    vectors[..., :6] = 24  # wrong for the left half
    got = chosen(y, Step(vectors, Doubled(y, flat())))
    assert (got[:, :2] == STILL).all() and (got[:, 4:] == 0).all()


def test_nothing_is_chosen_where_nothing_is_gained():
    y = texture()
    assert not chosen(y, Step(still_vectors(), Doubled(y, flat()))).any()
    moved = still_vectors(8)
    assert not chosen(y, Step(moved, Doubled(y, flat())), worth=1e-7).any()  # bits are worth more


def test_worth_may_differ_from_place_to_place():
    y = texture()
    worth = torch.full((1, 1, SIZE[0] // 16, SIZE[1] // 16), 0.02)
    worth[..., 3:] = 1e-7
    got = chosen(y, Step(still_vectors(24), Doubled(y, flat())), worth=worth)
    assert (got[:, :3] == STILL).all() and not np.isin(got[:, 4:], STILL).all()
