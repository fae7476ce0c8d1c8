"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import pytest
import toy


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory):
    """The toy model's file."""
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    toy.write_toy_model(path)
    return path


@pytest.fixture(scope="session")
def exact_toy_path(tmp_path_factory):
    """The file of the toy model with exact pictures."""
    path = tmp_path_factory.mktemp("toy") / "toy-exact.safetensors"
    toy.write_exact_toy_model(path)
    return path


@pytest.fixture
def loaded(toy_path):
    """The toy model, loaded afresh: widths that a test sets stay its own."""
    from neuralcodec.codecs.files import load_model

    return load_model(toy_path)
