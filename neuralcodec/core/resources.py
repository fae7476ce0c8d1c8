"""Where the files that come with the package are."""

from __future__ import annotations

from pathlib import Path

from neuralcodec.core.errors import InputError, ModelError


def _folder(installed_name: str, checkout_name: str) -> Path | None:
    """A folder that an installation has inside the package, and a checkout beside it under another name."""
    package = Path(__file__).resolve().parents[1]
    installed = package / installed_name
    if installed.is_dir():
        return installed
    # In a checkout, and so in an editable installation, the folder stands beside the package. Beside an installed
    # package a folder of that name would be somebody else's, hence the second condition.
    checkout = package.parent
    if (checkout / checkout_name).is_dir() and (checkout / "setup.cfg").is_file():
        return checkout / checkout_name
    return None


def model_folder() -> Path:
    """The folder that holds the models' weights and cards.

    Raises:
        ModelError: the installation has no such folder.
    """
    folder = _folder("weights", "models")
    if folder is None:
        installed = Path(__file__).resolve().parents[1] / "weights"
        raise ModelError(f"the model folder is missing from this installation (looked in {installed})")
    return folder


def demo_clip() -> Path:
    """The bundled clip, a few seconds of video with sound.

    Raises:
        InputError: the installation has none.
    """
    folder = _folder("democlip", "demo")
    if folder is None or not (folder / "frog.mp4").is_file():
        raise InputError("the demo clip is missing from this installation")
    return folder / "frog.mp4"
