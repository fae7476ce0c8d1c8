"""``ncodec demo``: the bundled clip through the codec at several levels, with figures and pictures to look at."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import Talk, bits_per_pixel, output_file, talk_options
from neuralcodec.cli.encode import encode_source
from neuralcodec.core.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from neuralcodec.codecs.files import LoadedModel
    from neuralcodec.core.types import Frame

LEVELS = (1, 2, 3)
PSNR_OF_EQUAL = 100.0
"""Decibels that stand for equal planes."""


@dataclass
class Row:
    """What the table says of one level. ``psnr`` are Y, U, V in dB, averaged over frames; sizes are in bytes, times in
    seconds."""

    level: int
    size: int = 0
    frame_bytes: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    psnr: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kmacs: float = 0.0
    pictures: dict[int, Frame] = field(default_factory=dict)


@click.command(short_help="Encode and decode a bundled clip at every level.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="Where the results go.",
)
@click.option("--quality", type=float, default=50.0, show_default=True, metavar="0..100")
@click.option("--frames", "count", type=click.IntRange(1), metavar="N", help="The first N frames only.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:n]", show_default=True)
@click.option("--model", metavar="NAME", help="One of `ncodec models`, or a model file.")
@talk_options
def demo(
    out: Path, quality: float, count: int | None, device: str, model: str | None, quiet: bool, verbose: bool
) -> None:
    """Encode the bundled clip at levels 1, 2 and 3, decode each, print a table, and write streams, MP4s and a picture
    to DIR.

    Bits per pixel are of the frames' packets for a luma sample; bytes are the whole file's, with sound. PSNR is the
    mean over frames. Times include reading, networks, entropy coding and writing of the stream (encoding) or the MP4
    (decoding). kMAC are thousands of multiply-accumulates of the decoder's networks for a pixel of a P frame.
    """
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.core.resources import demo_clip
    from neuralcodec.core.types import Frame
    from neuralcodec.media.source import open_source
    from neuralcodec.pipeline.device import choose_device

    clip, loaded, where = demo_clip(), by_name(model or DEFAULT_MODEL), choose_device(device)
    talk = Talk(quiet, verbose)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}") from error
    frames = (0, count) if count else None
    with open_source(clip, frames=frames) as source:
        original = [item for item in source.packets() if isinstance(item, Frame)]
        tags = source.properties.colour
    shown = sorted({len(original) // 4, (3 * len(original)) // 4})
    rows = [
        _level(level, clip, frames, original, shown, out, loaded, where, quality, talk)
        for level in LEVELS
        if level <= loaded.levels
    ]
    picture = out / "side-by-side.png"
    _side_by_side(picture, original, rows, shown, tags)
    _table(rows, loaded.name, quality, original)
    click.echo(f"streams   {out / 'frog-levelN.nvc'}")
    click.echo(f"videos    {out / 'frog-levelN.mp4'}")
    click.echo(f"pictures  {picture}")


def _level(
    level: int,
    clip: Path,
    frames: tuple[int, int | None] | None,
    original: list[Frame],
    shown: list[int],
    out: Path,
    loaded: LoadedModel,
    where: torch.device,
    quality: float,
    talk: Talk,
) -> Row:
    from neuralcodec.codecs.complexity import INTER, complexity, total
    from neuralcodec.media.source import open_source
    from neuralcodec.pipeline.encoder import EncodeOptions

    stream, video = out / f"frog-level{level}.nvc", out / f"frog-level{level}.mp4"
    row = Row(level, kmacs=float(total(complexity(loaded.model, loaded.widths[level - 1]), INTER)) / 1000)
    started = time.monotonic()
    with (
        open_source(clip, frames=frames) as source,
        output_file(str(stream), True) as file,
        talk.progress(f"encode, level {level}", len(original)) as advance,
    ):
        written = encode_source(
            source, file, loaded, EncodeOptions(level, quality), where, lambda w: advance(w.frames, "")
        )
    row.encode_seconds = time.monotonic() - started
    row.size, row.frame_bytes = written.size, written.frame_bytes
    with talk.progress(f"decode, level {level}", len(original)) as advance:
        _decode(stream, video, loaded, where, original, shown, row, advance)
    return row


def _decode(
    stream: Path,
    video: Path,
    loaded: LoadedModel,
    where: torch.device,
    original: list[Frame],
    shown: list[int],
    row: Row,
    advance: Any,
) -> None:
    from neuralcodec.bitstream import StreamReader
    from neuralcodec.core.types import SidePacket
    from neuralcodec.media.sink import open_sink
    from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder

    sums, measuring, number = [0.0] * 3, 0.0, 0
    started = time.monotonic()
    with open(stream, "rb") as file:
        reader = StreamReader(file, strict=True)
        header = reader.header
        decoder = StreamDecoder(reader, loaded, DecodeOptions(), where)
        with (
            open_sink(video, header.video, header.side_streams, header.metadata, overwrite=True) as sink,
            closing(decoder.run()) as items,
        ):
            for item in items:
                if isinstance(item, SidePacket):
                    sink.write_side(item)
                elif isinstance(item, DecodedFrame):
                    sink.write(item.frame)
                    before = time.monotonic()
                    for n, (a, b) in enumerate(zip(original[item.number].planes, item.frame.planes, strict=True)):
                        sums[n] += psnr(a, b)
                    if item.number in shown:
                        row.pictures[item.number] = item.frame
                    number += 1
                    advance(number, "")
                    measuring += time.monotonic() - before
    row.decode_seconds = time.monotonic() - started - measuring
    row.psnr = tuple(s / max(1, number) for s in sums)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two uint8 planes in dB; 100 for equal ones."""
    import numpy as np

    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return PSNR_OF_EQUAL if error == 0 else min(PSNR_OF_EQUAL, 10 * float(np.log10(255**2 / error)))


def _table(rows: list[Row], model: str, quality: float, original: list[Frame]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    height, width = original[0].planes[0].shape
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("level", "bytes", "bits/pixel", "PSNR Y", "U", "V", "encode s", "decode s", "decoder kMAC/pixel"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        rate = bits_per_pixel(row.frame_bytes, len(original), width, height)
        table.add_row(
            str(row.level),
            str(row.size),
            f"{rate:.4f}",
            *(f"{p:.2f}" for p in row.psnr),
            f"{row.encode_seconds:.1f}",
            f"{row.decode_seconds:.1f}",
            f"{row.kmacs:.2f}",
        )
    click.echo(f"model {model}, quality {quality:g}, {len(original)} frames of {width}x{height}")
    Console(highlight=False, width=100).print(table)


def _side_by_side(path: Path, original: list[Frame], rows: list[Row], shown: list[int], tags: Any) -> None:
    """A row for each shown frame: the source, then each level, with a label under each picture."""
    from PIL import Image, ImageDraw, ImageFont

    from neuralcodec.media.pixels import rgb_of

    height, width = original[0].planes[0].shape
    label, gap = 20, 4
    font = ImageFont.load_default(13)
    sheet = Image.new("RGB", ((width + gap) * (len(rows) + 1) - gap, (height + label) * len(shown)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, number in enumerate(shown):
        cells = [(f"source, frame {number}", original[number])]
        for row in rows:
            quality = psnr(original[number].planes[0], row.pictures[number].planes[0])
            cells.append((f"level {row.level}, frame {number}: {quality:.2f} dB (Y)", row.pictures[number]))
        for x, (text, frame) in enumerate(cells):
            at = x * (width + gap), y * (height + label)
            sheet.paste(Image.fromarray(rgb_of(frame.planes, tags)), at)
            draw.text((at[0] + 4, at[1] + height + 2), text, fill="black", font=font)
    with output_file(str(path), True) as file:
        sheet.save(file, "PNG")
