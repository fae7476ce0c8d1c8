"""Streams whose P frames say for each cell what it is predicted from: they decode as they were made, from any group on, at any level."""

import io

import numpy as np
import pytest
import rounds

from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.files import load_model
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.types import Frame
from neuralcodec.nn.hypotheses import STILL
from neuralcodec.pipeline import DecodeOptions, EncodeOptions

HEIGHT, WIDTH = 80, 112


@pytest.fixture(scope="module")
def loaded(toy_path):
    return load_model(toy_path)


def scene(count=10):
    """Something textured moves to the right in front of what stands still."""
    rng = np.random.default_rng(0)
    back, front = rng.integers(40, 216, (HEIGHT, WIDTH)), rng.integers(40, 216, (32, 32))
    for n in range(count):
        y = back.copy()
        y[24:56, 4 * n : 4 * n + 32] = front
        chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
        yield Frame((y.astype(np.uint8), chroma, chroma), n, 1)


FRAMES = list(scene())
VIDEO = rounds.video_of(FRAMES)


@pytest.fixture(scope="module")
def stream(loaded):
    return rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False))


def md5s(decoded):
    return [md5_of_frame(f.frame) for f in decoded.frames]


def test_the_encoder_chooses_and_decoders_see_the_same(loaded, stream):
    choices = [c.parsed.choices for c in stream.coded]
    assert [c is None for c in choices] == [n % 5 == 0 for n in range(10)]
    assert [c.parsed.lasting for c in stream.coded] == [False] * 10, "groups of five end before the cascade's best"
    found = np.concatenate([c.reshape(-1) for c in choices if c is not None])
    assert len(set(found)) > 2 and STILL in found
    expected = [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]
    for workers in (1, 2):
        decoded = rounds.decode(stream.data, loaded, DecodeOptions(workers=workers))
        assert md5s(decoded) == expected
        assert all(np.array_equal(a, f.parsed.choices) for a, f in zip(choices, decoded.frames, strict=True) if a is not None)
    part = rounds.decode(stream.data, loaded, DecodeOptions(frames=(7, 9)))
    assert md5s(part) == expected[7:9]


def test_bytes_do_not_depend_on_workers(loaded, stream):
    again = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=2, scene_cuts=False))
    assert again.data == stream.data


def test_without_them_streams_are_as_before(loaded, stream):
    plain = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False, hypotheses=False))
    assert not StreamReader(io.BytesIO(plain.data)).header.hypotheses and StreamReader(io.BytesIO(stream.data)).header.hypotheses
    assert all(c.parsed.choices is None for c in plain.coded)
    assert md5s(rounds.decode(plain.data, loaded)) == [md5_of_frame(f) for f in plain.reconstructions(HEIGHT, WIDTH)]


def test_sparse_latents_change_bytes_alone(loaded, stream):
    """The same decisions, latents and pictures, in other bytes, which the header tells of."""
    plain = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False, sparse=False))
    assert not StreamReader(io.BytesIO(plain.data)).header.sparse and StreamReader(io.BytesIO(stream.data)).header.sparse
    assert plain.data != stream.data
    decoded, expected = rounds.decode(plain.data, loaded), rounds.decode(stream.data, loaded)
    assert [f.parsed.digest_parts() for f in decoded.frames] == [f.parsed.digest_parts() for f in expected.frames]
    assert md5s(decoded) == md5s(expected)


def test_tables_adapt_alike_on_both_sides(loaded, stream):
    """What the encoder has learned after each P frame is what decoders have; intra frames begin anew; without it streams are as before."""
    plain = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False, adaptation=False))
    assert not StreamReader(io.BytesIO(plain.data)).header.adaptive and StreamReader(io.BytesIO(stream.data)).header.adaptive
    assert not any(c.parsed.adaptation for c in plain.coded)
    assert md5s(rounds.decode(plain.data, loaded)) == [md5_of_frame(f) for f in plain.reconstructions(HEIGHT, WIDTH)]
    decoded = rounds.decode(stream.data, loaded).frames
    for n, (ours, theirs) in enumerate(zip((c.parsed.adaptation for c in stream.coded), (f.parsed.adaptation for f in decoded), strict=True)):
        assert set(ours) == set(theirs) == (set() if n % 5 == 0 else {"motion", "contextual"})
        for name in ours:
            for a, b in zip([ours[name].hyper.offsets, *ours[name].groups], [theirs[name].hyper.offsets, *theirs[name].groups], strict=True):
                assert np.array_equal(a.offset, b.offset) and np.array_equal(a.information, b.information)
            assert np.array_equal(ours[name].hyper.before, theirs[name].hyper.before)
    assert any(g.offset.any() for c in stream.coded for a in c.parsed.adaptation.values() for g in [a.hyper.offsets, *a.groups])


def test_loop_filters_bring_pictures_nearer(loaded, stream):
    """Frames say what they are filtered by; decoders see the same; without them streams are as before."""
    plain = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False, loop_filter=False))
    assert not StreamReader(io.BytesIO(plain.data)).header.loop_filter and StreamReader(io.BytesIO(stream.data)).header.loop_filter
    assert all(c.parsed.filters is None for c in plain.coded)
    filters = [c.parsed.filters for c in stream.coded]
    assert any(p is not None for f in filters for p in f.planes) and StreamReader(io.BytesIO(stream.data)).header.directed
    decoded = rounds.decode(stream.data, loaded)
    for ours, theirs in zip(filters, (f.parsed.filters for f in decoded.frames), strict=True):
        assert ours.planes == theirs.planes

    def error(made):
        planes = zip((f.frame.planes for f in rounds.decode(made.data, loaded).frames), (f.planes for f in FRAMES), strict=True)
        return sum(((a.astype(float) - b) ** 2).sum() for p, q in planes for a, b in zip(p, q, strict=True))

    assert error(stream) < error(plain)


def test_corrections_go_on_from_frame_to_frame(loaded):
    """A line of another colour over the scene: intra and P frames correct it, decoders see the same, from any group on; without them streams are as before."""
    frames = []
    for frame in FRAMES:
        y, u, v = (p.copy() for p in frame.planes)
        y[60, 10:90], v[4:6, 10:40] = 255, 250
        frames.append(Frame((y, u, v), frame.pts, frame.duration))
    stream, plain = (rounds.encode(loaded, frames, VIDEO, EncodeOptions(quality=40, gop=5, workers=1, scene_cuts=False, corrections=c)) for c in (True, False))
    assert [StreamReader(io.BytesIO(made.data)).header.corrected for made in (stream, plain)] == [True, False]
    assert all(c.parsed.corrections is None for c in plain.coded)
    corrections = [c.parsed.corrections for c in stream.coded]
    assert {n % 5 > 0 for n, c in enumerate(corrections) if any(c.planes)} == {False, True}, "in intra and P frames"
    expected = [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]
    decoded = rounds.decode(stream.data, loaded)
    assert md5s(decoded) == expected and md5s(rounds.decode(stream.data, loaded, DecodeOptions(frames=(7, 9)))) == expected[7:9]
    for n, (ours, theirs) in enumerate(zip(corrections, (f.parsed.corrections for f in decoded.frames), strict=True)):
        assert np.array_equal(ours.statistics.counts, theirs.statistics.counts)
        if n % 5 and not any(ours.planes):
            assert np.array_equal(ours.statistics.counts, corrections[n - 1].statistics.counts)
    assert md5s(rounds.decode(plain.data, loaded)) == [md5_of_frame(f) for f in plain.reconstructions(HEIGHT, WIDTH)]


def test_other_levels_play_it(loaded, stream):
    for level in (2, 3):
        assert len(rounds.decode(stream.data, loaded, DecodeOptions(level=level)).frames) == 10
