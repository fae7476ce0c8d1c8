"""``ncodec encode``: a video or picture into an .nvc stream."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import click

from neuralcodec import __version__
from neuralcodec.cli.common import FrameRange, Size, Talk, bits_per_pixel, device_options, output_file, talk_options
from neuralcodec.core.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

    from neuralcodec.bitstream import FramePacket
    from neuralcodec.codecs.coding import Coded
    from neuralcodec.codecs.files import LoadedModel
    from neuralcodec.media.source import Source
    from neuralcodec.pipeline.encoder import EncodeOptions


@dataclass
class Written:
    """What an encoding wrote: ``size`` is the whole stream's, ``frame_bytes`` that of the frames' packets alone, in
    bytes; ``verified`` counts the frames that were decoded again and compared."""

    frames: int = 0
    size: int = 0
    frame_bytes: int = 0
    seconds: float = 0.0
    verified: int = 0


def encode_source(
    source: Source,
    file: BinaryIO,
    loaded: LoadedModel,
    options: EncodeOptions,
    device: torch.device,
    on_frame: Callable[[Written], None] | None = None,
    verify: str = "none",
) -> Written:
    """Encode an open source into a binary file. ``verify``: "first" group of pictures, "all" (``file`` has a name then,
    by which it can be opened again) or "none" is decoded again and compared.

    Raises InputError when the source holds no picture, VerifyError when something else comes back."""
    from neuralcodec.bitstream import Chapter, StreamWriter
    from neuralcodec.pipeline.encoder import StreamEncoder
    from neuralcodec.pipeline.verify import Verifier

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
    written = Written()

    def again() -> BinaryIO:
        file.flush()
        return open(file.name, "rb")

    verifier = None if verify == "none" else Verifier(file, encoder, again if verify == "all" else None)

    def count(packet: FramePacket, coded: Coded, size: int) -> None:
        written.frames += 1
        written.frame_bytes += size
        if verifier is not None:
            verifier.frame(packet, coded)
        if on_frame is not None:
            on_frame(written)

    with verifier or contextlib.nullcontext():
        writer = StreamWriter(verifier or file, encoder.header)
        if encoder.run(source.packets(), writer, count) == 0:
            raise InputError(f"{source.name}: there is not a single frame to encode")
        writer.finish()
        if verifier is not None:
            verifier.finish()
            written.verified = verifier.verified
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
@click.option(
    "--verify",
    type=click.Choice(["first", "all", "none"]),
    default="first",
    show_default=True,
    help="Decode what was written, and compare: the first group of pictures (32 frames of it at most), all, none.",
)
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
    verify: str,
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
    not depend on the number of workers. Where --verify finds latents or samples that are not the encoder's, there is
    no OUT.nvc and the exit code is 1; on a GPU, samples are compared only where the model's pictures are exact.
    """
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.media.source import open_source
    from neuralcodec.pipeline.device import choose_device
    from neuralcodec.pipeline.encoder import EncodeOptions

    if verify == "all" and (output == "-" or (os.path.exists(output) and not os.path.isfile(output))):
        raise UsageError("--verify all reads the stream again, which a pipe cannot: choose first or none")
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

        written = encode_source(opened, file, loaded, options, where, show, verify)
    # After an interruption a thread may still read from the source; so it is closed only when all went well.
    opened.close()
    talk.notes(opened.notes)
    rate = bits_per_pixel(written.frame_bytes, written.frames, video.width, video.height)
    talk.summary(
        f"{output}: {written.frames} frames, {written.size} bytes, {rate:.4f} bits/pixel, "
        f"{written.frames / max(written.seconds, 1e-9):.1f} frames a second, "
        f"{written.verified or 'no'} frames verified"
    )
