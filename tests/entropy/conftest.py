"""Both backends as a fixture, and the reference decoder of bitstream_spec on the import path."""

import sys
from pathlib import Path

import pytest

from neuralcodec.entropy.backend import load_backend

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bitstream_spec"))


@pytest.fixture(params=["constriction", "python"], scope="session")
def backend(request):
    try:
        return load_backend(request.param)
    except ImportError:
        pytest.skip(f"{request.param} is not installed")
