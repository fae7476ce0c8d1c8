"""Still pictures at the command line: one file in, one file out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from neuralcodec.core.errors import DamageError, UsageError

if TYPE_CHECKING:
    import torch

    from neuralcodec.bitstream import StreamReader
    from neuralcodec.cli.common import Talk
    from neuralcodec.cli.digests import Digests
    from neuralcodec.codecs.files import LoadedModel
    from neuralcodec.core.types import VideoProperties
    from neuralcodec.media.stills import StillSource
    from neuralcodec.pipeline.decoder import DecodeOptions
    from neuralcodec.pipeline.encoder import EncodeOptions
    from neuralcodec.pipeline.still_decoder import Still

DAMAGE_LINES = 20


@dataclass
class PictureWritten:
    """What an encoding wrote: bytes of the stream, and of the picture's packets alone."""

    size: int
    picture_bytes: int
    pixels: int
    verified: bool


def encode_picture(source: StillSource, file: BinaryIO, loaded: LoadedModel, options: EncodeOptions, device: torch.device, verify: bool,
                   on_tile: Callable[[int, int], None] = lambda done, count: None) -> PictureWritten:
    """A picture into a binary file. Raises UsageError, VerifyError."""
    from neuralcodec import __version__
    from neuralcodec.pipeline.stills import StillEncoder

    stream = StillEncoder(loaded, options, device, f"neuralcodec {__version__}").encode(source, verify, on_tile)
    file.write(stream.data)
    video = source.properties
    return PictureWritten(len(stream.data), stream.picture_bytes, video.width * video.height, stream.verified)


@dataclass(frozen=True)
class PictureOptions:
    """How a decoded picture is written: ``kind`` is Pillow's format, None for a video's; ``thumbnail`` the most samples of the longer side."""

    kind: str | None = None
    thumbnail: int | None = None
    lossless: bool = False

    def small(self, video: VideoProperties) -> bool:
        """Whether the latents alone give enough for the thumbnail."""
        from neuralcodec.pipeline.still_decoder import THUMBNAIL_SHRINK

        return self.thumbnail is not None and THUMBNAIL_SHRINK * self.thumbnail <= max(video.width, video.height)


@dataclass
class Decoded:
    """A decoded picture, one of whose samples stands for ``shrink`` in each direction; lines for the user."""

    still: Still
    shrink: int = 1
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises DamageError for a damaged picture."""
        if self.still.damage:
            count = len(self.still.damage)
            raise DamageError(f"the stream is damaged in {count} place{'s' if count > 1 else ''}; what is missing of the picture is gray")

    def damage_lines(self) -> Iterator[str]:
        """A line for each of the first damaged places."""
        for damage in self.still.damage[:DAMAGE_LINES]:
            yield f"ncodec: damage at byte {damage.offset} ({damage.size} bytes): {damage.reason}"


def decode_picture(reader: StreamReader, loaded: LoadedModel, options: DecodeOptions, device: torch.device, how: PictureOptions,
                   on_row: Callable[[int, int], None] = lambda done, count: None) -> Decoded:
    """The picture of a stream, or a thumbnail of it where its latents give one. Raises StreamError, UsageError."""
    from neuralcodec.pipeline.still_decoder import THUMBNAIL_SHRINK, StillDecoder

    small = how.small(reader.header.video)
    decoder = StillDecoder(reader, loaded, options, device, thumbnail=small)
    decoded = Decoded(decoder.run(on_row), THUMBNAIL_SHRINK if decoder.thumbnail else 1)
    if not small and decoder.level != reader.header.level:
        decoded.notes.append(f"made for level {reader.header.level}, decoded at level {decoder.level}: the picture differs a little")
    return decoded


def write_picture(decoded: Decoded, file: BinaryIO, reader: StreamReader, how: PictureOptions) -> None:
    """A decoded picture in a format of Pillow's; adds notes. Raises OutputError, UsageError."""
    from neuralcodec.media.still_files import save, thumbnail, to_image, upright
    from neuralcodec.media.stills import ICC

    video, still = reader.header.video, decoded.still
    image = to_image(still.frame.planes, video, still.alpha)
    attachments = still.attachments
    if how.thumbnail is not None:
        image = thumbnail(image, video.width, video.height, how.thumbnail, decoded.shrink)
        attachments = {kind: data for kind, data in attachments.items() if kind == ICC}
    aspect = 1 / video.sample_aspect_ratio if video.rotation % 180 and video.sample_aspect_ratio else video.sample_aspect_ratio
    decoded.notes += save(upright(image, video.rotation), file, how.kind, attachments, aspect or 1, how.lossless)


def picture_format(output: str, wanted: str | None) -> str | None:
    """Pillow's format for an output, None for those of videos. Raises UsageError for a ``wanted`` one that is unknown."""
    from neuralcodec.media.still_files import FORMATS, format_of

    if wanted is not None:
        return FORMATS[wanted]
    return None if output == "-" or "%" in output else format_of(output)


def decode_still(reader: StreamReader, loaded: LoadedModel, options: DecodeOptions, device: torch.device, how: PictureOptions, output: str | None,
                 force: bool, digests: Digests, talk: Talk, vcodec: str | None) -> None:
    """``ncodec decode`` of a still: writes it, checks md5s, tells of damage. Raises DamageError at the end where there was some."""
    from neuralcodec.cli.common import output_file
    from neuralcodec.media.sink import open_sink

    if options.frames[0] > 0:
        raise UsageError(f"frame {options.frames[0]}: the stream has 1")
    options = replace(options, frames=(0, None))
    with contextlib.ExitStack() as stack:
        sink = file = None
        if how.kind is not None:
            if vcodec:
                raise UsageError(f"a video encoder ({vcodec}) has no use for a picture")
            if output == "-" and sys.stdout.isatty():
                raise UsageError("a picture is not written to a terminal: name a file or use a pipe")
            file = stack.enter_context(output_file(output, force))
        elif output is not None:
            sink = stack.enter_context(open_sink(output, reader.header.video, vcodec=vcodec, lossless=how.lossless, overwrite=force))
        stack.enter_context(digests)
        with talk.progress("decode", None, frames=False) as advance:
            decoded = decode_picture(reader, loaded, options, device, how, lambda done, count: advance(done, f"of {count} rows of tiles"))
        if how.thumbnail is None:
            digests.update(0, decoded.still.frame)
            digests.finish()
        if file is not None:
            write_picture(decoded, file, reader, how)
        if sink is not None:
            sink.write(decoded.still.frame)
            if decoded.still.alpha is not None:
                decoded.notes.append("alpha left out: only PNG, WebP, TIFF and AVIF hold it")
            talk.notes(sink.notes)
    for line in decoded.damage_lines():
        talk.line(line)
    talk.notes(decoded.notes)
    decoded.check()
