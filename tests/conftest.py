"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]

# The time that one example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The bundled clip: 120 frames of 360x240 at 30 frames a second, H.264, with AAC stereo."""
    return ROOT / "demo" / "frog.mp4"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A file of a small flagship with random weights and three levels: codes everything, quickly and badly."""
    import torch

    from neuralcodec.codecs.files import save_model
    from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
    from neuralcodec.codecs.inter import InterConfig
    from neuralcodec.codecs.intra import IntraConfig
    from neuralcodec.codecs.motion import MotionConfig
    from neuralcodec.nn.selection import units
    from neuralcodec.nn.slimmable import SlimmableBlock

    config = FlagshipConfig(
        IntraConfig(channels=16, latent=16, hyper=8, encoder_blocks=1, decoder_blocks=1),
        MotionConfig(channels=8, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
        InterConfig(channels=16, latent=16, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                    decoder_blocks=1, motion_channels=8, motion_latent=8),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        model = Flagship(config)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, SlimmableBlock):  # a new one is the identity, at every width
                    module.project.weight.normal_(0, 0.2)
    count = len(units(model))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, model, [bytes(count), bytes([1]) * count, bytes([2]) * count])
    return path


@pytest.fixture(scope="session")
def tiny_exact_model(tiny_model, tmp_path_factory) -> Path:
    """A file of the same model with exact pictures."""
    import numpy as np

    from neuralcodec.codecs.conversion import from_float
    from neuralcodec.codecs.files import load_model, save_model

    loaded = load_model(tiny_model)
    noise = np.random.default_rng(3).integers(0, 256, (3, 4, 6)).astype(np.uint8)
    clip = [tuple(np.roll(noise[n], shift, 1).repeat(size, 0).repeat(size, 1) for n, size in ((0, 16), (1, 8), (2, 8))) for shift in range(2)]
    path = tmp_path_factory.mktemp("model") / "tiny-exact.safetensors"
    save_model(path, from_float(loaded.model, [clip], loaded.widths, qualities=(0, 100, 200)), list(loaded.widths))
    return path
