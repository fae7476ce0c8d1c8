"""Where the files that come with the package are."""

from __future__ import annotations

from pathlib import Path

from neuralcodec.core.errors import ModelError


def model_folder() -> Path:
    """The folder that holds the models' weights and cards.

    Raises:
        ModelError: the installation has no such folder.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "weights"
    if installed.is_dir():
        return installed
    # In a checkout, and so in an editable installation, models/ stands beside the package. Beside an installed package a
    # folder of that name would be somebody else's, hence the second condition.
    checkout = package.parent
    if (checkout / "models").is_dir() and (checkout / "setup.cfg").is_file():
        return checkout / "models"
    raise ModelError(f"the model folder is missing from this installation (looked in {installed})")
