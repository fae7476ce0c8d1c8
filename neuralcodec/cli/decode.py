"""``ncodec decode``: .nvc streams into video files, pictures or a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import FrameRange, Talk, device_options, input_stream, talk_options
from neuralcodec.core.errors import DamageError, NcodecError, StreamError, UsageError

if TYPE_CHECKING:
    from neuralcodec.bitstream import StreamHeader
    from neuralcodec.cli.batch import Batch
    from neuralcodec.cli.digests import Digests
    from neuralcodec.cli.pictures import PictureOptions
    from neuralcodec.media.sink import Sink
    from neuralcodec.pipeline.decoder import DecodeOptions

DAMAGE_LINES = 20
"""Damaged places that are told one by one; the rest is counted."""


@click.command(short_help="Decode an .nvc file into a video, pictures or a pipe.")
@click.argument("sources", metavar="IN.nvc...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help=".mp4 .mkv .mov .webm, .y4m, .yuv, .png or a pattern such as f%04d.png, or - for y4m on standard output; of a "
    "picture also .jpg .webp .tif .bmp .avif; of several files or a folder, the folder for their pictures.",
)
@click.option(
    "--format",
    "picture_kind",
    type=click.Choice(["png", "jpg", "webp", "tif", "bmp", "avif"]),
    help="Of a picture, whatever OUT is called; of several files: png, if not said.",
)
@click.option(
    "--thumbnail", type=click.IntRange(1), metavar="SIZE", help="Of a picture, a small one: SIZE samples at most a side."
)
@click.option("--level", type=int, metavar="N", help="Play at another complexity than the stream's own, with drift.")
@click.option("--frames", type=FrameRange(), metavar="a:b", help="Frames a to b - 1 only, counted from 0.")
@click.option("--md5", is_flag=True, help="Print the md5 of all decoded frames, in md5sum's form.")
@click.option("--md5-frames", is_flag=True, help="Print the md5 of each decoded frame, in FFmpeg's framemd5 form.")
@click.option("--md5-file", metavar="FILE", help="Where the md5 lines go.")
@click.option(
    "--verify",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with the md5s in a file of either form; exit code 1 and no OUT where they differ.",
)
@click.option(
    "--vcodec", metavar="C", help="FFmpeg's video encoder for containers (default: libx264, visually lossless)."
)
@click.option("--lossless", is_flag=True, help="Keep every decoded sample in a container.")
@click.option("--strict", is_flag=True, help="Refuse a damaged stream.")
@click.option(
    "--model",
    "model_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A model file that is not installed.",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.")
@click.option("--recursive", is_flag=True, help="Of a folder, take the streams in its folders too.")
@click.option("--skip-existing", is_flag=True, help="Of several files, pass over those whose picture is there.")
@device_options
@talk_options
def decode(
    sources: tuple[str, ...],
    output: str | None,
    picture_kind: str | None,
    thumbnail: int | None,
    level: int | None,
    frames: tuple[int, int | None] | None,
    md5: bool,
    md5_frames: bool,
    md5_file: str | None,
    verify: Path | None,
    vcodec: str | None,
    lossless: bool,
    strict: bool,
    model_file: Path | None,
    force: bool,
    recursive: bool,
    skip_existing: bool,
    device: str,
    workers: int | None,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> int | None:
    """Decode IN.nvc (- is standard input); the name of OUT chooses the format. The streams of pictures, several or those in
    a folder, go into the folder OUT; one that fails is told in a line, and the others go on.

    A damaged stream costs the groups of pictures that were hit: each place is told in a line, the rest is decoded and
    the exit code is 6.

    The md5 is taken over the decoded 8-bit samples, of each frame in presentation order Y, then U, then V, row by row,
    cropped to the picture's size and not rotated: the md5 of the .yuv file, and of what ffmpeg -i OUT.y4m -f rawvideo -
    gives. Its lines go to standard output, or to standard error when the pictures go there. To --verify a part, give
    --frames as they were when the file was made.
    """
    from neuralcodec.bitstream import Arithmetic, StreamReader
    from neuralcodec.cli.batch import Batch, is_batch
    from neuralcodec.cli.digests import Digests, read_md5_file
    from neuralcodec.cli.pictures import PictureOptions, decode_still, picture_format
    from neuralcodec.codecs.registry import by_identity
    from neuralcodec.pipeline.decoder import DecodeOptions, StreamDecoder
    from neuralcodec.pipeline.device import choose_device

    if output is None and not (md5 or md5_frames or verify):
        raise UsageError("name an output with -o, or ask for --md5 or --verify")
    if md5_file is not None and not (md5 or md5_frames):
        raise UsageError("--md5-file needs --md5 or --md5-frames")
    if output is None and (vcodec or lossless):
        raise UsageError("--vcodec and --lossless need an output")
    if thumbnail and (output is None or md5 or md5_frames or verify):
        raise UsageError("--thumbnail needs an output, and has no md5")
    if model_file is not None and not model_file.is_file():
        raise UsageError(f"{model_file}: no such file")
    if output is not None and is_batch(sources, output):
        if frames or md5 or md5_frames or verify or vcodec:
            raise UsageError("--frames, --vcodec and md5s are for a single file")
        how = PictureOptions(picture_format("", picture_kind or "png"), thumbnail, lossless)
        batch = Batch(Talk(quiet, verbose), "decode", force, skip_existing)
        options = DecodeOptions(level, workers=1, threads=threads or 1)
        return _decode_many(
            batch, sources, output, f".{picture_kind or 'png'}", recursive, options, how, device, workers, model_file, strict
        )
    if len(sources) > 1:
        raise UsageError("several files need a folder, given with -o")
    (source,) = sources
    if output == "-" and sys.stdout.isatty():
        raise UsageError("video is not written to a terminal: name a file or use a pipe")
    expected = read_md5_file(verify) if verify else None
    talk = Talk(quiet, verbose)
    where = choose_device(device)
    with input_stream(source) as file:
        reader = StreamReader(file, strict=strict)
        header = reader.header
        loaded = by_identity(header.model_id, header.model_name, model_file)
        options = DecodeOptions(level, frames or (0, None), workers, threads)
        decoder = StreamDecoder(reader, loaded, options, where)
        if decoder.level != header.level and not header.video.still:
            talk.note(
                f"made for level {header.level}, played at level {decoder.level}: "
                "pictures drift within each group of pictures"
            )
        if expected is not None and header.arithmetic is Arithmetic.FLOAT_PICTURES:
            talk.note("the stream's pictures are in floating point: their md5 holds on one machine only")
        sink = None
        digests = Digests(
            header.video,
            source,
            whole=md5,
            each=md5_frames,
            path=md5_file,
            force=force,
            to_stderr=output == "-",
            expected=expected,
            first=frames[0] if frames else 0,
        )
        if header.video.still:
            kind = picture_format(output, picture_kind) if output is not None else None
            if thumbnail and kind is None:
                raise UsageError(f"a thumbnail is a picture: name one, or its --format, instead of {output}")
            how = PictureOptions(kind, thumbnail, lossless)
            decode_still(reader, loaded, options, where, how, output, force, digests, talk, vcodec)
            return None
        if picture_kind or thumbnail:
            raise UsageError("--format and --thumbnail are for pictures; this is a video")
        index = reader.index()
        if output is not None:
            sink = _open_sink(output, header, vcodec, lossless, force)
            talk.notes(sink.notes)
        _Run(talk, header, sink, digests, frames).run(decoder, index.frame_count if index else None)


def _open_sink(output: str, header: StreamHeader, vcodec: str | None, lossless: bool, force: bool) -> Sink:
    from neuralcodec.media.sink import open_sink

    chapters = [
        {"id": n, "start": c.start, "end": c.end, "time_base": c.time_base, "metadata": dict(c.metadata)}
        for n, c in enumerate(header.chapters)
    ]
    return open_sink(
        output,
        header.video,
        header.side_streams,
        header.metadata,
        chapters=chapters,
        vcodec=vcodec,
        lossless=lossless,
        overwrite=force,
    )


class _Run:
    """Takes what the decoder gives and hands it to the output, the digests and the user."""

    def __init__(
        self,
        talk: Talk,
        header: StreamHeader,
        sink: Sink | None,
        digests: Digests,
        frames: tuple[int, int | None] | None,
    ) -> None:
        from neuralcodec.cli.sides import SideCut

        self.talk, self.header, self.sink, self.digests, self.range = talk, header, sink, digests, frames
        self.sides = SideCut(header) if frames is not None and sink is not None else None
        self.frames = self.damaged = 0

    def run(self, decoder: Any, count: int | None) -> None:
        started = time.monotonic()
        total = None
        if count is not None:
            first, end = self.range or (0, None)
            total = min(count, end if end is not None else count) - first
        with (
            self.sink or contextlib.nullcontext(),
            self.digests,
            self.talk.progress("decode", total) as advance,
            contextlib.closing(decoder.run()) as items,
        ):
            for item in items:
                self._take(item)
                advance(self.frames, "")
            if self.frames == 0:
                raise (DamageError if self.damaged else StreamError)("the stream has no frame that can be decoded")
            self.digests.finish()
            if self.sides is not None:
                self._write_sides(self.sides.end())
        if self.sink is not None:
            self.talk.notes(self.sink.notes)
        seconds = time.monotonic() - started
        same = f", as in {self.digests.expected.name}" if self.digests.expected else ""
        self.talk.summary(f"{self.frames} frames{same}, {self.frames / max(seconds, 1e-9):.1f} frames a second")
        if self.damaged:
            more = f" ({self.damaged - DAMAGE_LINES} more than are listed)" if self.damaged > DAMAGE_LINES else ""
            places = f"{self.damaged} place{'s' if self.damaged > 1 else ''}"
            raise DamageError(f"the stream is damaged in {places}{more}; {self.frames} frames were decoded")

    def _take(self, item: Any) -> None:
        from neuralcodec.bitstream import Damage
        from neuralcodec.core.types import SidePacket

        if isinstance(item, Damage):
            self.damaged += 1
            if self.damaged <= DAMAGE_LINES:
                self.talk.line(f"ncodec: damage at byte {item.offset} ({item.size} bytes): {item.reason}")
        elif isinstance(item, SidePacket):
            if self.sink is not None:
                self._write_sides(self.sides.packet(item) if self.sides is not None else [item])
        else:
            self.frames += 1
            self.digests.update(item.number, item.frame)
            if self.sink is not None:
                if self.sides is not None:
                    self._write_sides(self.sides.frame(item.frame))
                self.sink.write(item.frame)
                self.talk.notes(self.sink.notes)

    def _write_sides(self, packets: list) -> None:
        for packet in packets:
            self.sink.write_side(packet)


def _decode_many(
    batch: Batch,
    sources: tuple[str, ...],
    output: str,
    ending: str,
    recursive: bool,
    options: DecodeOptions,
    how: PictureOptions,
    device: str,
    workers: int | None,
    model_file: Path | None,
    strict: bool,
) -> int:
    from neuralcodec.bitstream import StreamReader
    from neuralcodec.cli.batch import Outcome, Task, collect
    from neuralcodec.cli.pictures import decode_picture, write_picture
    from neuralcodec.codecs.registry import by_identity
    from neuralcodec.pipeline.device import choose_device, core_count

    where = choose_device(device)

    def work(task: Task) -> Outcome:
        with input_stream(str(task.source)) as file:
            reader = StreamReader(file, strict=strict)
            loaded = by_identity(reader.header.model_id, reader.header.model_name, model_file)
            decoded = decode_picture(reader, loaded, options, where, how)
            with batch.output(task.target) as out:
                write_picture(decoded, out, reader, how)
        video = reader.header.video
        done = Outcome(
            task, video.width * video.height, task.source.stat().st_size, task.target.stat().st_size, decoded.notes
        )
        try:
            decoded.check()
        except DamageError as error:
            done.error, done.code = f"{task.source}: {error}", error.exit_code
        return done

    # Widths are set in the model, which all workers share: streams of one table go together.
    groups: dict[tuple, list[Task]] = {}
    for task in batch.admit(collect(sources, output, recursive, (".nvc",), ending)):
        try:
            with input_stream(str(task.source)) as file:
                header = StreamReader(file).header
        except NcodecError as error:
            batch.fail(task, error)
            continue
        level = header.level, header.level_locked, how.small(header.video)
        groups.setdefault((header.model_id, header.width_tables, level), []).append(task)
    for tasks in groups.values():
        batch.run(tasks, work, workers or (core_count() if where.type == "cpu" else 2))
    batch.summary()
    return batch.code
