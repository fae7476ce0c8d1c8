"""The lookahead on pictures of which it is known what lasts."""

import math

import pytest
import torch

from neuralcodec.codecs.lookahead import MOST_IMPORTANT, Lookahead, SceneCuts, octaves_better


def noise(seed: int) -> torch.Tensor:
    return torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(seed)).repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :96, :128] * 255


def lasting(pictures) -> float:
    lookahead = Lookahead()
    for picture in pictures:
        lookahead.add(picture)
    return lookahead.lasting()


@pytest.mark.parametrize("count", [1, 2, 8, 32])
def test_what_stays_serves_all_frames(count):
    assert lasting([noise(0)] * count) == pytest.approx(math.log2(count), abs=0.02)


def test_what_goes_serves_its_own_frame():
    assert lasting(noise(i) for i in range(8)) < 0.4


def test_what_moves_lasts():
    wide = torch.cat([noise(1), noise(2)], 3)
    panned = [wide[..., 4 * i : 4 * i + 128] for i in range(6)]
    assert 1.2 < lasting(panned) <= math.log2(6)


def test_half_of_a_picture():
    half = [torch.cat([noise(0)[..., :64], noise(i)[..., 64:]], 3) for i in range(8)]
    assert 0.35 * 3 < lasting(half) < 0.65 * 3


def test_after_a_cut_nothing_is_left():
    assert lasting([noise(0)] * 4 + [noise(1)] * 4) == pytest.approx(2, abs=0.25)


def test_flat_pictures_and_small_ones():
    flat = torch.full((1, 1, 16, 16), 100.0)
    assert 0 <= lasting([flat] * 3) <= math.log2(3)
    assert lasting([flat]) == 0 == lasting([])


def test_the_longer_it_lasts_the_better():
    assert 0 < octaves_better(0) < octaves_better(1) < octaves_better(5) < 2.5


# -- scenes ----------------------------------------------------------------------------------------------------------------


def scenes(pictures) -> list[int]:
    cuts = SceneCuts()
    return [i for i, p in enumerate(pictures) if cuts.add(p[0, 0].round().to(torch.uint8).numpy())]


def scene(seed: int, count: int, step: int = 3) -> list[torch.Tensor]:
    """A pan over large, smooth shapes."""
    coarse = torch.rand(1, 1, 8, 24, generator=torch.Generator().manual_seed(seed)) * 255
    wide = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear")
    return [wide[..., :96, step * i : step * i + 128] for i in range(count)]


def test_a_scene_begins_where_nothing_is_left_of_the_one_before():
    assert scenes(scene(0, 5) + scene(1, 4) + scene(2, 3)) == [5, 9]


def test_motion_noise_and_light_are_no_new_scene():
    assert scenes(scene(0, 12, step=8)) == []
    assert scenes([noise(0).mul(0.1) + 100] * 3 + [noise(1).mul(0.1) + 100]) == [], "grain on grey"
    assert scenes([p * (1 + 0.03 * i) for i, p in enumerate(p.mul(0.6) for p in scene(0, 8))]) == []


def test_small_pictures_and_changing_sizes_have_none():
    assert scenes([torch.full((1, 1, 8, 8), 255.0 * (i % 2)) for i in range(4)]) == []
    assert scenes([noise(0), noise(1)[..., :64, :64]]) == []


# -- what counts ------------------------------------------------------------------------------------------------------------


def looked(pictures) -> Lookahead:
    lookahead = Lookahead()
    for picture in pictures:
        lookahead.add(picture)
    return lookahead


def test_what_lasts_counts_more_than_what_goes():
    """The left half stays, the right half is new in each frame."""
    lookahead = looked([torch.cat([noise(0)[..., :64], noise(i)[..., 64:]], 3) for i in range(8)])
    importance = lookahead.importance()
    assert importance.shape == (1, 1, 6, 8)
    assert importance[..., :3].min() > 1 > importance[..., 5:].max()
    assert importance.max() <= MOST_IMPORTANT and importance.min() >= 1 / MOST_IMPORTANT
    assert torch.log2(importance).mean().abs() < 0.1, "it weighs positions against each other"


def test_where_all_last_alike_all_count_alike():
    assert torch.equal(looked([noise(0)] * 4).importance(), torch.ones(1, 1, 6, 8))
    assert looked([noise(0)]).importance() is None is looked([]).importance()


def test_it_moves_on():
    """Four frames of one scene, then another one: what is seen from each frame."""
    lookahead = looked([noise(0)] * 4 + [noise(1)] * 4)
    seen = []
    for _ in range(8):
        seen.append(lookahead.lasting())
        lookahead.drop()
    assert seen == pytest.approx([2, math.log2(3), 1, 0, 2, math.log2(3), 1, 0], abs=0.3)
    assert seen[-1] == 0 and lookahead.importance() is None


def test_frames_one_by_one_have_nothing_ahead():
    lookahead = Lookahead()
    for picture in (noise(0), noise(0), noise(0)):
        lookahead.add(picture)
        assert lookahead.lasting() == 0 and lookahead.importance() is None
        lookahead.drop()
