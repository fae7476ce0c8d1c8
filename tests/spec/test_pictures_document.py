"""pictures.md in numpy against the real picture side: the same pictures up to rounding, at every level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralcodec.codecs.coding import FlagshipCoder
from neuralcodec.codecs.files import load_model
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.layout import pack, to_samples, unpack
from neuralcodec.nn.selection import apply_widths, units

FOLDER = Path(__file__).resolve().parents[2] / "bitstream_spec" / "conformance"


@pytest.fixture(scope="module")
def model():
    from reference.model import read_model

    return read_model((FOLDER / "conformance.safetensors").read_bytes())


@pytest.fixture(scope="module")
def loaded():
    return load_model(FOLDER / "conformance.safetensors")


def test_packing():
    from reference import pictures

    rng = np.random.default_rng(1)
    planes = tuple(rng.integers(0, 256, size).astype(np.float64) for size in ((32, 48), (16, 24), (16, 24)))
    packed = pictures.pack(planes)
    y, uv = torch.from_numpy(planes[0])[None, None], torch.from_numpy(np.stack(planes[1:]))[None]
    assert np.allclose(packed, pack(y, uv)[0].numpy(), atol=1e-12)
    for ours, theirs, plane in zip(pictures.unpack(packed), (y[0, 0], *uv[0]), planes, strict=True):
        assert np.array_equal(ours, plane) and np.array_equal(theirs.numpy(), plane)
    assert torch.equal(to_samples(*unpack(torch.from_numpy(packed)[None]))[0], y)


@pytest.mark.parametrize("scale", [1.5, 40.0, 2000.0])
def test_compensation_is_the_same_number(scale):
    from reference import pictures

    rng = np.random.default_rng(2)
    planes = tuple(rng.integers(0, 256, size).astype(np.float64) for size in ((80, 96), (40, 48), (40, 48)))
    vectors = (rng.standard_normal((2, 10, 12)) * scale).astype(np.float32)
    y = torch.from_numpy(planes[0]).float()[None, None]
    uv = torch.from_numpy(np.stack(planes[1:])).float()[None]
    expected_y, expected_uv = compensate(y, uv, torch.from_numpy(vectors)[None])
    got = pictures.compensate(planes, vectors.astype(np.float64))
    for ours, theirs in zip(got, (expected_y[0, 0], *expected_uv[0]), strict=True):
        assert np.array_equal(ours, theirs.numpy())


def test_units_in_order(model, loaded):
    from reference.pictures import PictureSide

    table = loaded.widths[1]
    apply_widths(loaded.model, table)
    side = PictureSide(model.tensors, model.metadata["config"], list(table))
    assert list(side.widths) == list(units(loaded.model))


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("name", ["level2_exceptions", "two_groups", "quality_200", "odd_size"])
def test_pictures(name, level, model, loaded):
    """Each frame from the real decoder's reference, so that differences of rounding do not add up."""
    from reference import container, decode
    from reference.pictures import PictureSide

    stream = container.read_stream((FOLDER / f"{name}.nvc").read_bytes())
    size = (stream.header["height"], stream.header["width"])
    side = PictureSide(model.tensors, model.metadata["config"], stream.header["width_tables"][level - 1])
    apply_widths(loaded.model, stream.header["width_tables"][level - 1])
    coder = FlagshipCoder(loaded.model)
    parsed = planes = None
    different = total = 0
    for frame, latents in decode.decode(stream, model):
        parsed = coder.parse(frame.kind, frame.payload, tuple(frame.masks), frame.quality, size, parsed)
        before = None if planes is None else tuple(p.double().numpy() for p in (planes.y[0, 0], *planes.uv[0]))
        planes = coder.reconstruct(frame.kind, parsed, frame.quality, planes)
        got = side.picture(frame.kind, latents, frame.quality, before)
        for ours, theirs in zip(got, (planes.y[0, 0], *planes.uv[0]), strict=True):
            difference = np.abs(ours - theirs.numpy())
            different, total = different + np.count_nonzero(difference), total + difference.size
        assert len(np.unique(planes.y)) > 3
    assert different <= total // 500
