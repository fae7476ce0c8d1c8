"""``ncodec decode``: an .nvc stream into a video file, pictures or a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import FrameRange, Talk, device_options, input_stream, talk_options
from neuralcodec.core.errors import DamageError, StreamError, UsageError

if TYPE_CHECKING:
    from neuralcodec.bitstream import StreamHeader
    from neuralcodec.cli.digests import Digests
    from neuralcodec.media.sink import Sink

DAMAGE_LINES = 20
"""Damaged places that are told one by one; the rest is counted."""


@click.command(short_help="Decode an .nvc file into a video, pictures or a pipe.")
@click.argument("source", metavar="IN.nvc")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help=".mp4 .mkv .mov .webm, .y4m, .yuv, .png or a pattern such as f%04d.png, or - for y4m on standard output.",
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
@device_options
@talk_options
def decode(
    source: str,
    output: str | None,
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
    device: str,
    workers: int | None,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Decode IN.nvc (- is standard input); the name of OUT chooses the format.

    A damaged stream costs the groups of pictures that were hit: each place is told in a line, the rest is decoded and
    the exit code is 6.

    The md5 is taken over the decoded 8-bit samples, of each frame in presentation order Y, then U, then V, row by row,
    cropped to the picture's size and not rotated: the md5 of the .yuv file, and of what ffmpeg -i OUT.y4m -f rawvideo -
    gives. Its lines go to standard output, or to standard error when the pictures go there. To --verify a part, give
    --frames as they were when the file was made.
    """
    from neuralcodec.bitstream import Arithmetic, StreamReader
    from neuralcodec.cli.digests import Digests, read_md5_file
    from neuralcodec.codecs.registry import by_identity
    from neuralcodec.pipeline.decoder import DecodeOptions, StreamDecoder
    from neuralcodec.pipeline.device import choose_device

    if output is None and not (md5 or md5_frames or verify):
        raise UsageError("name an output with -o, or ask for --md5 or --verify")
    if md5_file is not None and not (md5 or md5_frames):
        raise UsageError("--md5-file needs --md5 or --md5-frames")
    if output is None and (vcodec or lossless):
        raise UsageError("--vcodec and --lossless need an output")
    if output == "-" and sys.stdout.isatty():
        raise UsageError("video is not written to a terminal: name a file or use a pipe")
    if model_file is not None and not model_file.is_file():
        raise UsageError(f"{model_file}: no such file")
    expected = read_md5_file(verify) if verify else None
    talk = Talk(quiet, verbose)
    where = choose_device(device)
    with input_stream(source) as file:
        reader = StreamReader(file, strict=strict)
        header = reader.header
        loaded = by_identity(header.model_id, header.model_name, model_file)
        options = DecodeOptions(level, frames or (0, None), workers, threads)
        decoder = StreamDecoder(reader, loaded, options, where)
        if decoder.level != header.level:
            talk.note(
                f"made for level {header.level}, played at level {decoder.level}: "
                "pictures drift within each group of pictures"
            )
        if expected is not None and header.arithmetic is Arithmetic.FLOAT_PICTURES:
            talk.note("the stream's pictures are in floating point: their md5 holds on one machine only")
        index = reader.index()
        sink = None
        if output is not None:
            sink = _open_sink(output, header, vcodec, lossless, force)
            talk.notes(sink.notes)
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
