"""``ncodec encode``: videos and pictures into .nvc streams."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import click

from neuralcodec import __version__
from neuralcodec.cli.batch import Batch, Outcome, Task, collect, is_batch
from neuralcodec.cli.common import FrameRange, Size, Talk, bits_per_pixel, device_options, output_file, talk_options
from neuralcodec.core.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

    from neuralcodec.bitstream import FramePacket
    from neuralcodec.codecs.coding import Coded
    from neuralcodec.codecs.files import LoadedModel
    from neuralcodec.media.source import Source
    from neuralcodec.media.stills import StillSource
    from neuralcodec.pipeline.encoder import EncodeOptions


NO_PICTURE = "{}: --chroma 444 is for pictures; videos are coded in 4:2:0"


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
    from neuralcodec.bitstream import BUNDLE, Chapter, StreamWriter
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
        writer = StreamWriter(verifier or file, encoder.header, bundle=BUNDLE)
        if encoder.run(source.packets(), writer, count) == 0:
            raise InputError(f"{source.name}: there is not a single frame to encode")
        writer.finish()
        if verifier is not None:
            verifier.finish()
            written.verified = verifier.verified
    written.size, written.seconds = writer.position, time.monotonic() - started
    return written


@click.command(short_help="Encode a video or picture into an .nvc file.")
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.nvc|FOLDER",
    help="The stream to write, - for standard output; of several files or a folder, the folder for their streams.",
)
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
    "--effort",
    type=int,
    metavar="0..3",
    help="How long the encoder looks for what takes fewer bits; decoding takes no longer.  [default: 1 for videos, 0 for pictures and groups of fewer than 16 frames]",
)
@click.option(
    "--gop",
    type=click.IntRange(0),
    default=32,
    show_default=True,
    metavar="N",
    help="Frames in a group of pictures, at most; 0: one intra frame, at the start.",
)
@click.option("--no-scene-cuts", is_flag=True, help="Groups of N frames whatever they show; otherwise a new scene begins a new one.")
@click.option("--no-corrections", is_flag=True, help="Do not correct blocks of decoded frames, so that older readers can decode the stream; graphics take more bits.")
@click.option("--no-loop-filter", is_flag=True, help="Do not filter decoded frames, so that older readers can decode the stream; takes more bits.")
@click.option("--no-hypotheses", is_flag=True, help="Predict P frames from the frame before alone, and code latents one by one, so that older readers can decode the stream; takes more bits.")
@click.option("--no-adaptation", is_flag=True, help="Keep to the tables that the model says for P frames, so that older readers can decode the stream; takes more bits.")
@click.option("--no-temporal-filter", is_flag=True, help="Code the pictures that others refer to as they are, grain and all; otherwise they are denoised.")
@click.option("--frames", type=FrameRange(), metavar="a:b", help="Frames a to b - 1 only, counted from 0.")
@click.option("--no-audio", is_flag=True, help="Leave the sound out.")
@click.option("--model", metavar="NAME", help="One of `ncodec models`, or a model file.")
@click.option(
    "--route",
    type=click.Choice(["full", "jumc", "agent", "C1", "C2", "C3", "C4", "C5"]),
    help="Of AdaNIC: the level's capacity everywhere, the least that is good enough for each block (by trial, or by the model's agent), or one for all.",
)
@click.option(
    "--chroma",
    type=click.Choice(["420", "444"]),
    default="420",
    show_default=True,
    help="Of pictures: chroma at half the size, or 4:4:4 (screens, drawings, red on blue), which takes more bits.",
)
@click.option(
    "--verify",
    type=click.Choice(["first", "all", "none"]),
    default="first",
    show_default=True,
    help="Decode what was written, and compare: the first group of pictures (32 frames of it at most), all, none.",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.nvc.")
@click.option("--recursive", is_flag=True, help="Of a folder, take the pictures in its folders too.")
@click.option("--skip-existing", is_flag=True, help="Of several files, pass over those whose stream is there.")
@click.option("--size", type=Size(), metavar="WxH", help="Of a raw .yuv file.")
@click.option("--pix-fmt", metavar="F", help="Of a raw .yuv file, by FFmpeg's name (default: yuv420p).")
@click.option("--fps", metavar="R", help="Of a raw .yuv file or a numbered pattern, such as 25 or 30000/1001.")
@device_options
@talk_options
def encode(
    sources: tuple[str, ...],
    output: str,
    level: int,
    quality: float,
    effort: int | None,
    gop: int,
    no_scene_cuts: bool,
    no_hypotheses: bool,
    no_adaptation: bool,
    no_corrections: bool,
    no_loop_filter: bool,
    no_temporal_filter: bool,
    frames: tuple[int, int | None] | None,
    no_audio: bool,
    model: str | None,
    route: str | None,
    chroma: str,
    verify: str,
    force: bool,
    recursive: bool,
    skip_existing: bool,
    size: tuple[int, int] | None,
    pix_fmt: str | None,
    fps: str | None,
    device: str,
    workers: int | None,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> int | None:
    """Encode IN, whatever PyAV opens, a picture, raw planes or - for standard input, into an .nvc stream.

    Several files, or the pictures in a folder, go into the folder OUT under their names; one that fails is told in a line,
    and the others go on. Of a picture alpha, ICC profile, EXIF and XMP are kept, and its orientation is applied.

    What is not 8-bit 4:2:0 is converted (pictures to 4:4:4 with --chroma 444). Sound, subtitles, metadata, time stamps and colour tags travel along. Nothing
    stands under the name OUT.nvc before the stream is complete. For a given number of threads (default 1) the bytes do
    not depend on the number of workers. Where --verify finds latents or samples that are not the encoder's, there is
    no OUT.nvc and the exit code is 1; on a GPU, samples are compared only where the model's pictures are exact.
    """
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.media.source import open_source
    from neuralcodec.media.stills import open_still
    from neuralcodec.pipeline.device import choose_device
    from neuralcodec.pipeline.encoder import EncodeOptions

    options = EncodeOptions(level, quality, gop, workers, threads or 1, scene_cuts=not no_scene_cuts, temporal_filter=not no_temporal_filter,
                            hypotheses=not no_hypotheses, adaptation=not no_adaptation, sparse=not no_hypotheses, loop_filter=not no_loop_filter, corrections=not no_corrections, effort=effort, route=route)
    if is_batch(sources, output):
        if frames or size or pix_fmt or fps:
            raise UsageError("--frames, --size, --pix-fmt and --fps are for a single file")
        batch = Batch(Talk(quiet, verbose), "encode", force, skip_existing)
        return _encode_many(batch, sources, output, recursive, replace(options, workers=1), by_name(model or DEFAULT_MODEL), device, workers, verify, not no_audio,
                            chroma == "444")
    (source,) = sources
    if verify == "all" and (output == "-" or (os.path.exists(output) and not os.path.isfile(output))):
        raise UsageError("--verify all reads the stream again, which a pipe cannot: choose first or none")
    talk = Talk(quiet, verbose)
    options.quality_index()
    where = choose_device(device)
    loaded = by_name(model or DEFAULT_MODEL)
    still = None if frames or size or pix_fmt or fps else open_still(source, chroma == "444")
    if still is not None:
        _encode_still(still, output, force, loaded, options, where, verify, talk)
        return
    if chroma == "444":
        raise UsageError(NO_PICTURE.format(source))
    opened = open_source(source, frames=frames, audio=not no_audio, size=size, pix_fmt=pix_fmt, fps=fps)
    video = opened.properties
    if loaded.intra_only and gop != 1 and not video.still:
        talk.note(f"model {loaded.name} codes every frame by itself: --gop is 1")
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


def _encode_still(
    still: StillSource,
    output: str,
    force: bool,
    loaded: LoadedModel,
    options: EncodeOptions,
    device: torch.device,
    verify: str,
    talk: Talk,
) -> None:
    from neuralcodec.cli.pictures import encode_picture

    talk.notes(still.notes)
    video = still.properties
    talk.detail(f"{video.width}x{video.height}, model {loaded.name}, level {options.level}, quality {options.quality:g}, on {device}")
    with output_file(output, force) as file, talk.progress("encode", None, frames=False) as advance:
        written = encode_picture(
            still, file, loaded, options, device, verify != "none", lambda done, count: advance(done, f"of {count} tiles")
        )
    rate = 8 * written.picture_bytes / written.pixels
    talk.summary(f"{output}: {written.size} bytes, {rate:.4f} bits/pixel, {'' if written.verified else 'not '}verified")


def _encode_many(
    batch: Batch,
    sources: tuple[str, ...],
    output: str,
    recursive: bool,
    options: EncodeOptions,
    loaded: LoadedModel,
    device: str,
    workers: int | None,
    verify: str,
    audio: bool,
    full_chroma: bool,
) -> int:
    from neuralcodec.cli.pictures import encode_picture
    from neuralcodec.codecs.coders import check_route
    from neuralcodec.media.source import open_source
    from neuralcodec.media.stills import PICTURE_ENDINGS, open_still
    from neuralcodec.pipeline.device import choose_device, core_count

    options.quality_index()
    check_route(loaded.model, options.route, options.level)
    where = choose_device(device)

    def work(task: Task) -> Outcome:
        still = open_still(str(task.source), full_chroma)
        if still is not None:
            with batch.output(task.target) as file:
                done = encode_picture(still, file, loaded, options, where, verify != "none")
            pixels, notes = done.pixels, still.notes
        elif full_chroma:
            raise UsageError(NO_PICTURE.format(task.source))
        else:
            with open_source(str(task.source), audio=audio) as opened, batch.output(task.target) as file:
                written = encode_source(opened, file, loaded, options, where, None, verify)
            pixels, notes = written.frames * opened.properties.width * opened.properties.height, opened.notes
        return Outcome(task, pixels, task.source.stat().st_size, task.target.stat().st_size, notes)

    tasks = batch.admit(collect(sources, output, recursive, PICTURE_ENDINGS, ".nvc"))
    batch.run(tasks, work, workers or (core_count() if where.type == "cpu" else 2))
    batch.summary()
    return batch.code
