"""``ncodec encode``: a video or picture into an .nvc stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import click

from neuralcodec import __version__
from neuralcodec.cli.common import FrameRange, Size, Talk, bits_per_pixel, device_options, output_file, talk_options
from neuralcodec.core.errors import InputError

if TYPE_CHECKING:
    import torch

    from neuralcodec.codecs.files import LoadedModel
    from neuralcodec.media.source import Source
    from neuralcodec.pipeline.encoder import EncodeOptions


@dataclass
class Written:
    """What an encoding wrote: ``size`` is the whole stream's, ``frame_bytes`` that of the frames' packets alone, in
    bytes."""

    frames: int = 0
    size: int = 0
    frame_bytes: int = 0
    seconds: float = 0.0


def encode_source(
    source: Source,
    file: BinaryIO,
    loaded: LoadedModel,
    options: EncodeOptions,
    device: torch.device,
    on_frame: Callable[[Written], None] | None = None,
) -> Written:
    """Encode an open source into a binary file. Raises InputError when it holds no picture."""
    from neuralcodec.bitstream import Chapter, StreamWriter
    from neuralcodec.pipeline.encoder import StreamEncoder

    started = time.monotonic()
    chapters = tuple(
        Chapter(c["start"], c["end"], c["time_base"], dict(c.get("metadata") or {})) for c in source.chapters
    )
    encoder = StreamEncoder(
        loaded,
        source.properties,
        options,
        device,
        side_streams=tuple(source.side_streams),
        metadata=source.metadata,
        chapters=chapters,
        program=f"neuralcodec {__version__}",
    )
    writer = StreamWriter(file, encoder.header)
    written = Written()

    def count(packet: object, coded: object, size: int) -> None:
        written.frames += 1
        written.frame_bytes += size
        if on_frame is not None:
            on_frame(written)

    if encoder.run(source.packets(), writer, count) == 0:
        raise InputError(f"{source.name}: there is not a single frame to encode")
    writer.finish()
    written.size, written.seconds = writer.position, time.monotonic() - started
    return written


@click.command(short_help="Encode a video or picture into an .nvc file.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT.nvc", help="The stream to write; - is standard output.")
@click.option("--level", type=int, default=1, show_default=True, metavar="N", help="Complexity; 1 is the highest.")
@click.option(
    "--quality",
    type=float,
    default=50.0,
    show_default=True,
    metavar="0..100",
    help="In steps of 0.5; higher is better.",
)
@click.option(
    "--gop",
    type=click.IntRange(0),
    default=32,
    show_default=True,
    metavar="N",
    help="Frames in a group of pictures; 0: one intra frame, at the start.",
)
@click.option("--frames", type=FrameRange(), metavar="a:b", help="Frames a to b - 1 only, counted from 0.")
@click.option("--no-audio", is_flag=True, help="Leave the sound out.")
@click.option("--model", metavar="NAME", help="One of `ncodec models`, or a model file.")
@click.option("--force", is_flag=True, help="Overwrite OUT.nvc.")
@click.option("--size", type=Size(), metavar="WxH", help="Of a raw .yuv file.")
@click.option("--pix-fmt", metavar="F", help="Of a raw .yuv file, by FFmpeg's name (default: yuv420p).")
@click.option("--fps", metavar="R", help="Of a raw .yuv file or a numbered pattern, such as 25 or 30000/1001.")
@device_options
@talk_options
def encode(
    source: str,
    output: str,
    level: int,
    quality: float,
    gop: int,
    frames: tuple[int, int | None] | None,
    no_audio: bool,
    model: str | None,
    force: bool,
    size: tuple[int, int] | None,
    pix_fmt: str | None,
    fps: str | None,
    device: str,
    workers: int | None,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Encode IN, whatever PyAV opens, a picture, raw planes or - for standard input, into an .nvc stream.

    What is not 8-bit 4:2:0 is converted. Sound, subtitles, metadata, time stamps and colour tags travel along. Nothing
    stands under the name OUT.nvc before the stream is complete. For a given number of threads (default 1) the bytes do
    not depend on the number of workers.
    """
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.media.source import open_source
    from neuralcodec.pipeline.device import choose_device
    from neuralcodec.pipeline.encoder import EncodeOptions

    talk = Talk(quiet, verbose)
    options = EncodeOptions(level, quality, gop, workers, threads or 1)
    options.quality_index()
    where = choose_device(device)
    loaded = by_name(model or DEFAULT_MODEL)
    opened = open_source(source, frames=frames, audio=not no_audio, size=size, pix_fmt=pix_fmt, fps=fps)
    video = opened.properties
    talk.notes(opened.notes)
    talk.detail(
        f"{video.width}x{video.height}, model {loaded.name} ({loaded.identity.hex()[:16]}), "
        f"level {level}, quality {quality:g}, "
        f"{len(opened.side_streams)} side streams, on {where}"
    )
    with output_file(output, force) as file, talk.progress("encode", opened.frame_count_hint) as advance:

        def show(written: Written) -> None:
            talk.notes(opened.notes)
            advance(
                written.frames,
                f"{bits_per_pixel(written.frame_bytes, written.frames, video.width, video.height):.4f} bits/pixel",
            )

        written = encode_source(opened, file, loaded, options, where, show)
    # After an interruption a thread may still read from the source; so it is closed only when all went well.
    opened.close()
    talk.notes(opened.notes)
    rate = bits_per_pixel(written.frame_bytes, written.frames, video.width, video.height)
    talk.summary(
        f"{output}: {written.frames} frames, {written.size} bytes, {rate:.4f} bits/pixel, "
        f"{written.frames / max(written.seconds, 1e-9):.1f} frames a second"
    )
