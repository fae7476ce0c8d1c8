"""What an encoder sees around the frames of a group, and the temporal filter within a stream."""

import numpy as np
import pytest
import rounds
import toy

from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.temporal_filter import REACH
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.types import Frame, SidePacket
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.pipeline import EncodeOptions, surroundings
from neuralcodec.pipeline.surroundings import Sight, look_around

FRAMES = list(toy.moving_texture(10, 48, 80))
VIDEO = rounds.video_of(FRAMES)


@pytest.fixture(scope="module")
def loaded(toy_path):
    return load_model(toy_path)


@pytest.mark.parametrize("most", [1, 2, 4, 10, 32])
def test_order_and_windows(most):
    side = [SidePacket(0, b"", i, i) for i in range(4)]
    items = [side[0], *FRAMES[:3], side[1], side[2], *FRAMES[3:], side[3]]
    seen = list(look_around(iter(items), most))
    assert [s.frame if isinstance(s, Sight) else s for s in seen] == items
    sights = [s for s in seen if isinstance(s, Sight)]
    for i, sight in enumerate(sights):
        assert sight.later == FRAMES[i + 1 : i + most]
        assert sight.earlier == FRAMES[max(0, i - REACH) : i][::-1]


def test_nothing_is_taken_before_it_is_needed():
    taken = []

    def items():
        for frame in FRAMES:
            taken.append(frame)
            yield frame

    around = look_around(items(), 3)
    next(around)
    assert len(taken) == 3
    next(around)
    assert len(taken) == 4


def test_an_empty_group():
    assert list(look_around(iter([]), 4)) == []


def noisy(frames: list[Frame]) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [Frame(tuple(np.clip(p + np.rint(4 * rng.standard_normal(p.shape)), 0, 255).astype(np.uint8) for p in f.planes), f.pts, f.duration) for f in frames]


def test_filtered_frames_take_fewer_bits_and_streams_decode(loaded):
    """Nothing is filtered in a still, or where it is not wanted."""
    frames = noisy(FRAMES)

    def coded(workers=1, **options):
        stream = rounds.encode(loaded, frames, VIDEO, EncodeOptions(quality=60, gop=10, workers=workers, intra_boost=20, **options))
        decoded = rounds.decode(stream.data, loaded)
        assert [md5_of_frame(f.frame) for f in decoded.frames] == [md5_of_frame(f) for f in stream.reconstructions(VIDEO.height, VIDEO.width)]
        return [p.payload for p in stream.packets]

    filtered, plain = coded(), coded(temporal_filter=False)
    assert coded(workers=2) == filtered
    assert len(filtered[0]) < len(plain[0]), "the intra frame"
    alone = [rounds.encode(loaded, frames[:1], VIDEO, EncodeOptions(temporal_filter=f, workers=1)).data for f in (True, False)]
    assert alone[0] == alone[1]


@pytest.mark.parametrize(("cascade", "filtered"), [((0,), [0]), ((-3,), [0]), ((0, 9), [0, 2, 4, 6, 8]), ((-7, 2, 9, 2), [0, 3, 7])])
def test_which_frames_are_filtered(cascade, filtered, loaded, monkeypatch):
    """The intra frame, and P frames that are the best of the cascade, if that makes any better."""
    seen = []

    def record(y, uv, *_):
        seen.append(next(i for i, f in enumerate(FRAMES) if np.array_equal(planes_to_tensors(f.planes, y.device)[0], y)))
        return y, uv

    monkeypatch.setattr(surroundings, "filter_picture", record)
    rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(gop=10, workers=1, cascade=cascade))
    assert seen == filtered
