"""An encoding checked while it is made: what was written is decoded again and compared with what the encoder took for its reference.

::

    StreamWriter --bytes--> Verifier --> file
                               | a copy of the first group
    StreamEncoder --frames-->  '--> StreamReader, StreamDecoder (a thread of its own) --> compare

A stream is read back packet by packet through the decoder's own code, so that a fault of the machine, of a kernel that gives other sums the
second time, or of this program shows before anybody relies on the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

from neuralcodec.bitstream import Arithmetic, Damage, FramePacket, StreamReader
from neuralcodec.bitstream.writer import BUNDLE, ByteSink
from neuralcodec.codecs.coding import Coded, Parsed
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.errors import StreamError, VerifyError
from neuralcodec.core.types import Frame, SidePacket
from neuralcodec.nn.layout import tensors_to_planes
from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder
from neuralcodec.pipeline.encoder import StreamEncoder

FIRST_FRAMES = 32
"""Frames of the first group that are decoded again at most: a group may be the whole video."""


class Verifier:
    """Stands between a StreamWriter and its ``file``, and is told each frame by ``frame`` after it was written.

    Without ``again`` the first group of pictures is compared, beside the encoding as soon as it is written; ``file`` may be a pipe then. With it
    everything is, at the end: ``again`` opens what was written for reading. Latents and masks must be equal; so must samples, but for pictures in
    floating point on anything but a CPU, where nothing promises that a kernel gives the same sums twice. ``frame`` and ``finish`` raise VerifyError.
    As a context manager it stops its thread. ``verified`` counts the frames that were found equal."""

    def __init__(self, file: ByteSink, encoder: StreamEncoder, again: Callable[[], BinaryIO] | None = None) -> None:
        self._file, self._encoder, self._again = file, encoder, again
        self._size = (encoder.video.height, encoder.video.width)
        self._samples = encoder.device.type == "cpu" or encoder.header.arithmetic is Arithmetic.EXACT
        self._kept: io.BytesIO | None = None if again else io.BytesIO()
        self._meant: list[tuple[bytes, str | None]] = []
        self._threads = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None
        self._over = threading.Event()
        self._told = self.verified = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._threads.shutdown(wait=False)

    def write(self, data: bytes) -> int | None:
        """Hands bytes on to the file, and keeps those of the first group."""
        written = self._file.write(data)
        if self._kept is not None:
            self._kept.write(data[:written])
        return written

    def frame(self, packet: FramePacket, coded: Coded) -> None:
        """The next frame, as ``StreamEncoder.run`` reports it."""
        if self._running is not None:
            if self._running.done():
                self._running.result()
            return
        if self._again is None and packet.intra and self._meant:
            self._start(self._kept)
            return
        self._told += 1
        if self._again is not None or self._told <= FIRST_FRAMES:
            picture = Frame(tensors_to_planes(coded.planes.y, coded.planes.uv, *self._size), packet.pts) if self._samples else None
            self._meant.append(_digests(coded.parsed, picture))
        elif self._told == FIRST_FRAMES + BUNDLE:  # before, some may still wait for their packet to be full
            self._start(self._kept)

    def finish(self) -> None:
        """After the stream's end: waits for the comparison."""
        if self._running is None:
            self._start(self._again() if self._again else self._kept)
        self._running.result()

    def _start(self, stream: BinaryIO) -> None:
        stream.seek(0)
        self._kept = None
        self._running = self._threads.submit(self._compare, stream)

    def _compare(self, stream: BinaryIO) -> None:
        encoder, whole = self._encoder, self._again is not None
        options = DecodeOptions(workers=encoder.options.workers if whole else 1, threads=encoder.options.threads, pictures=self._samples)
        with stream:
            try:
                decoder = StreamDecoder(StreamReader(stream), encoder.loaded, options, encoder.device, prepared=True)
            except StreamError as e:
                raise VerifyError(f"verification failed: {e}") from e
            with contextlib.closing(decoder.run()) as items:
                for item in items:
                    if self._over.is_set() or (self.verified == len(self._meant) and not whole):
                        return
                    if isinstance(item, Damage):
                        raise VerifyError(f"verification failed after {self.verified} frames, at byte {item.offset}: {item.reason}")
                    if not isinstance(item, SidePacket):
                        self._frame(item)
        if self.verified < len(self._meant):
            raise VerifyError(f"verification failed: only {self.verified} of {len(self._meant)} frames can be decoded")

    def _frame(self, item: DecodedFrame) -> None:
        latents, picture = _digests(item.parsed, item.frame)
        meant = self._meant[self.verified]
        if latents != meant[0]:
            raise VerifyError(f"verification failed: frame {item.number} decodes to other latents than the encoder's")
        if picture != meant[1]:
            raise VerifyError(f"verification failed: frame {item.number} decodes to another picture than the encoder's")
        self.verified += 1


def _digests(parsed: Parsed, picture: Frame | None) -> tuple[bytes, str | None]:
    latents = hashlib.md5(b"".join(parsed.digest_parts()), usedforsecurity=False).digest()
    return latents, md5_of_frame(picture) if picture else None
