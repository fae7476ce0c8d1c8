"""Predictions by cell: what cells show is what whole pictures would, exactly."""

import pytest
import torch

from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.hypotheses import (
    ALL,
    FIRST_LONG,
    FIRST_LONGER,
    FIRST_SECOND,
    LONG,
    LONGER,
    SECOND,
    STILL,
    Doubled,
    Past,
    Step,
    all_predictions,
    apply_choices,
    follow,
    in_sixteenths,
    predict,
    ways_back,
)

SIZES = [(16, 16), (48, 64), (80, 112)]


def picture(height, width, seed):
    g = torch.Generator().manual_seed(seed)
    return Doubled(torch.randint(0, 256, (1, 1, height, width), generator=g).float(), torch.randint(0, 256, (1, 2, height // 2, width // 2), generator=g).float())


def vectors(height, width, seed, scale=6.0):
    return in_sixteenths(torch.randn(1, 2, height // 8, width // 8, generator=torch.Generator().manual_seed(seed)) * scale)


def history(height, width, known=2, lasting=False):
    """A picture's first step, and the past of its reference with so many steps."""
    steps = tuple(Step(vectors(height, width, n, scale), picture(height, width, n + 1)) for n, scale in ((3, 20.0), (5, 600.0)))
    long = tuple(Step(vectors(height, width, n, 10.0), picture(height, width, n + 1)) for n in (8, 11))
    past = Past(steps[:known], long[:known], lasting) if known else Past()
    return Step(vectors(height, width, 1), picture(height, width, 2)), past


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("known", "lasting"), [(0, True), (1, False), (2, False), (2, True)])
def test_cells_show_what_whole_predictions_would(size, known, lasting):
    first, past = history(*size, known, lasting)
    ways = ways_back(first, past)
    everything = all_predictions(ways)
    choices = torch.randint(0, 10, (size[0] // 16, size[1] // 16), generator=torch.Generator().manual_seed(7))
    got = apply_choices(predict(first), choices, ways)
    for i, plane in enumerate(got):
        shown = choices.repeat_interleave(16 >> i, 0).repeat_interleave(16 >> i, 1)
        expected = torch.stack([e[i] for e in everything]).gather(0, shown.expand(plane.shape)[None])[0]
        assert torch.equal(plane, expected)


def test_a_picture_remembers_two_steps_and_the_ways_to_two_long_term_references():
    first, past = history(48, 64)
    ways = ways_back(first, past)
    own = ways.past(past, False)
    assert own == Past((first, past.steps[0]), ways.long, False)
    assert [w.picture for w in ways.long] == [w.picture for w in past.long]
    assert all(torch.equal(w.vectors, follow(first.vectors, p.vectors)) for w, p in zip(ways.long, past.long, strict=True))
    after = Step(vectors(48, 64, 20), picture(48, 64, 21))
    assert [w.picture for w in ways_back(after, own).long] == [w.picture for w in past.long]
    last, before = ways_back(after, ways.past(past, True)).long
    assert last is after and before.picture is past.long[0].picture and torch.equal(before.vectors, follow(after.vectors, ways.long[0].vectors))
    assert ways_back(after, Past()) == type(ways)(after, after, after, (after,))


def test_the_first_prediction_is_that_of_motion_compensation():
    first, _ = history(48, 64)
    expected = compensate(first.picture.y, first.picture.uv, first.vectors.float() / 16)
    assert all(torch.equal(a, b) for a, b in zip(predict(first), expected, strict=True))


def test_following_adds_what_the_reference_had_where_vectors_lead():
    still, shift = torch.zeros(1, 2, 6, 8, dtype=torch.int32), torch.full((1, 2, 6, 8), 128, dtype=torch.int32)  # a cell right and down
    field = vectors(48, 64, 9)
    assert torch.equal(follow(still, field), field)
    led = follow(shift, field)
    assert torch.equal(led[..., :-1, :-1], 128 + field[..., 1:, 1:])
    assert torch.equal(led[..., -1, -1], 128 + field[..., -1, -1])  # edges repeat
    between = follow(torch.full_like(still, 64), field)[0, 0, 0, 0] - 64  # half a cell: the mean of four, half rounded up
    assert int(between) == int((field[0, 0, :2, :2].sum() * 2 + 4) // 8)


def test_what_moves_steadily_is_found_two_frames_back():
    g = torch.Generator().manual_seed(1)
    wide = torch.randint(0, 256, (1, 1, 64, 96), generator=g).float()
    frames = [Doubled(wide[..., 4 * n : 4 * n + 64], torch.full((1, 2, 32, 32), 128.0)) for n in range(3)]  # content moves left by 4 samples a frame
    step = torch.zeros(1, 2, 8, 8, dtype=torch.int32)
    step[:, 0] = 16 * 4
    ways = ways_back(Step(step, frames[1]), Past((Step(step, frames[0]),), (Step(step, frames[0]),), False))
    inside = slice(0, 48)
    for choice in (SECOND, FIRST_SECOND, ALL, LONG, FIRST_LONG, LONGER, FIRST_LONGER):
        shown, _ = apply_choices(predict(ways.first), torch.full((4, 4), choice), ways)
        assert torch.equal(shown[..., inside], frames[2].y[..., inside])
    shown, _ = apply_choices(predict(ways.first), torch.full((4, 4), STILL), ways)
    assert torch.equal(shown, frames[1].y)
