"""md5 of decoded pictures: the number by which two decoders are compared.

The digest of a frame is taken over its Y, then U, then V samples, each plane row by row from the top left without any
padding; the digest of a video is taken over its frames in presentation order, one after another.
"""

from __future__ import annotations

import hashlib

import numpy as np

from neuralcodec.core.types import Frame


def _feed(digest, frame: Frame) -> None:
    for plane in frame.planes:
        digest.update(memoryview(np.ascontiguousarray(plane, dtype=np.uint8)).cast("B") if plane.size else b"")


def md5_of_frame(frame: Frame) -> str:
    """md5 of one frame's samples as 32 lower-case hexadecimal digits. Time stamps do not enter."""
    digest = hashlib.md5(usedforsecurity=False)
    _feed(digest, frame)
    return digest.hexdigest()


class RunningMd5:
    """md5 over all frames of a video; equal to the md5 of the raw planar file that holds the same frames."""

    def __init__(self) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        self.frames = 0

    def update(self, frame: Frame) -> None:
        """Add the next frame in presentation order."""
        _feed(self._digest, frame)
        self.frames += 1

    def hexdigest(self) -> str:
        """The digest of everything added so far; more frames may follow."""
        return self._digest.hexdigest()
