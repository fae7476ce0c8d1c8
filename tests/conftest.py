"""Settings and fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# The time that one example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The bundled clip: 120 frames of 360x240 at 30 frames a second, H.264, with AAC stereo."""
    return ROOT / "demo" / "frog.mp4"
