"""Detail that training adds to its samples."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from neuralcodec.cli.train import train
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.detail import add_detail


def soft(seed, frames=2, side=64):
    """Luma with fine stripes, chroma that is smooth."""
    wave = np.linspace(0, 3, side // 2)
    y = 120 + 10 * np.cos(np.arange(side) * 1.6) + np.zeros((frames, side, side))
    uv = 128 + 20 * np.cos(wave + seed) + np.zeros((frames, 2, side // 2, side // 2))
    return y.round().astype(np.uint8), uv.round().astype(np.uint8)


def fine(plane):
    """Energy of the differences between neighbours along rows."""
    return float(np.square(np.diff(plane.astype(float), axis=-1)).mean())


def test_luma_is_sharper_and_chroma_gets_its_detail():
    y, uv = soft(0)
    for seed in range(8):
        sharp, coloured = add_detail(np.random.default_rng(seed), y, uv, 1.0)
        assert sharp.dtype == coloured.dtype == np.uint8 and sharp.shape == y.shape and coloured.shape == uv.shape
        assert 0.98 * fine(y) < fine(sharp) < 4.5 * fine(y)
        assert np.array_equal(sharp[0], sharp[1]) and np.array_equal(coloured[0], coloured[1]), "the same in all frames"
    gained = [fine(add_detail(np.random.default_rng(s), y, uv, 1.0)[1]) / fine(uv) for s in range(8)]
    assert max(gained) > 1.5 and min(gained) > 0.98
    assert np.abs(sharp.astype(float).mean() - y.mean()) < 1 and np.abs(coloured.astype(float).mean() - uv.mean()) < 1


def test_flat_pictures_stay_as_they_are():
    y, uv = np.full((1, 32, 32), 90, np.uint8), np.full((1, 2, 16, 16), 60, np.uint8)
    sharp, coloured = add_detail(np.random.default_rng(0), y, uv, 2.0)
    assert np.array_equal(sharp, y) and np.array_equal(coloured, uv)


@pytest.mark.parametrize(("option", "least", "most"), [({"detail": 1.0}, 10, 30), ({"graphics": 0.25}, 3, 18), ({"graphics": 1.0}, 36, 41)], ids=str)
def test_so_many_of_40_samples_have_it(option, least, most):
    frames = np.random.default_rng(0).integers(100, 156, (4, 96, 64), np.uint8)
    clips = Clips(frames, [4])
    plain, detailed = Sampler([clips], 5, gamma=0.0), Sampler([clips], 5, gamma=0.0, **option)
    changed = 0
    for _ in range(40):
        state = plain.rng.bit_generator.state
        before = plain.batch(64, 1, 2)
        detailed.rng.bit_generator.state = state
        changed += not torch.equal(before.y, detailed.batch(64, 1, 2).y)
    assert least < changed < most


def test_chroma_is_revived_in_intra_alone(tmp_path):
    result = CliRunner().invoke(train, ["long", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--revive-chroma"])
    assert result.exit_code != 0 and "of the stage intra" in str(result.exception)
