"""``ncodec inspect``: what is in an .nvc stream, and where its bits go."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from neuralcodec.cli.common import Talk, input_stream, talk_options
from neuralcodec.core.errors import DamageError, ModelError, NcodecError, UsageError

if TYPE_CHECKING:
    from neuralcodec.bitstream import StreamReader
    from neuralcodec.codecs.files import LoadedModel


@click.command(short_help="Show what is in an .nvc file.")
@click.argument("source", metavar="FILE.nvc")
@click.option("--packets", is_flag=True, help="A line for each packet instead of the summary.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object; with --packets one for each packet, a line each."
)
@click.option(
    "--latents-md5", is_flag=True, help="Only the md5 over width tables, latents and masks, equal on all machines."
)
@click.option(
    "--model",
    "model_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A model file that is not installed.",
)
@talk_options
def inspect(
    source: str, packets: bool, as_json: bool, latents_md5: bool, model_file: Path | None, quiet: bool, verbose: bool
) -> None:
    """Show a stream's header, model, level, widths, groups of pictures, packets, bits by syntax element and skipped
    latents.

    Without the stream's model there is what the container says. A damaged stream is shown as far as it can be read;
    then the exit code is 6.

    \b
    JSON:
      file, bytes, frames, seconds, bits_per_pixel (frame packets for a luma sample), index (whether there is one)
      header           the stream header: size, rationals as "a/b", colour (H.273), level, quality, side streams ...
                         (levels is null for a bare picture without its model)
      model            {name, identity, installed}, and channels: of each level, where all layers have one width
      width_tables     for each level, the width option (0: 100 %, 1: 50 %, 2: 25 %) of each slimmable unit
      packets          by kind: {count, bytes, framing, smallest, largest}, in bytes
      bits             by syntax element; they add up to 8 times the file's bytes
                         motion, contextual              symbols of the latents
                         motion hyper, contextual hyper  hyper latents
                         motion mask, contextual mask    exceptions and flags of masks
                         choices, filters                predictions of cells, loop filters
                         corrections                     corrections of blocks
                         rounding                        payloads to whole bytes, can be negative
                         framing, side streams, attachments, header and index, unparsed frames, damaged
      skipped_percent  by latent: "I contextual", "P motion", "P contextual", "alpha contextual", "chroma contextual"
      predicted_percent  of the cells of P frames, by what they are predicted from
      attachments      of a picture: [{kind, bytes}], kind ICC, EXIF, XMP or a number
      gops             [{first_frame, frames, pts, time, quality, offset, frame_bytes}]
      damage           [{offset, bytes, reason, breaks_group}]
      latents_md5      null where not every frame could be parsed

    \b
    Packets: offset, bytes, kind, framing and what the kind has (pts, duration, quality, decode_order, modes ...);
    frames, tiles, alpha and chroma also have bits and skipped_percent of their latents.
    """
    from neuralcodec.bitstream import Damage, GopStart, StreamReader
    from neuralcodec.cli.facts import Facts, describe_packet, describe_parsed, has_latents
    from neuralcodec.pipeline.decoder import complete_header

    if model_file is not None and not model_file.is_file():
        raise UsageError(f"{model_file}: no such file")
    talk = Talk(quiet, verbose)
    with _file(source) as (file, again, size):
        reader = StreamReader(file)
        loaded = _model(reader, model_file, talk)
        facts = Facts(reader, complete_header(reader.header, loaded) if loaded else reader.header)
        kind = _StillLatents if reader.header.video.still else _Latents
        latents = kind(StreamReader(again), loaded, talk) if loaded else None
        gop = 0
        for item in reader:
            if isinstance(item, Damage):
                facts.damaged(item)
                continue
            facts.packet(item)
            described = describe_packet(item) if packets else {}
            if isinstance(item.content, GopStart):
                gop = item.content.first_frame
            if has_latents(item.content, reader.header) and latents is not None:
                parsed = latents.of(item.content, gop)
                if parsed is not None:
                    facts.latent(item.content, parsed)
                    described |= describe_parsed(parsed) if packets else {}
            if packets and not latents_md5:
                click.echo(json.dumps(described) if as_json else _packet_line(described))
        for damage in latents.finish() if latents is not None else ():
            facts.damaged(damage)
        document = facts.document(source, size, loaded is not None)
        if loaded is not None and loaded.channels is not None:
            document["model"]["channels"] = list(loaded.channels)
    _print(document, packets, as_json, latents_md5)
    for place in document["damage"][:20]:
        talk.line(f"ncodec: damage at byte {place['offset']} ({place['bytes']} bytes): {place['reason']}")
    if document["damage"]:
        raise DamageError(
            f"the stream is damaged in {len(document['damage'])} places; {document['frames']} frames are there"
        )


def _print(document: dict[str, Any], packets: bool, as_json: bool, latents_md5: bool) -> None:
    if latents_md5:
        if document["latents_md5"] is None:
            raise (DamageError if document["damage"] else ModelError)(
                "not every frame's latents could be read, so there is no md5"
            )
        click.echo(f"{document['latents_md5']}  {document['file']}")
    elif packets:
        return
    elif as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from neuralcodec.cli.report import report

        click.echo(report(document))


@contextmanager
def _file(source: str) -> Iterator[tuple[BinaryIO, BinaryIO, int]]:
    """The stream opened twice, and its size; what comes through a pipe is stored first."""
    with tempfile.TemporaryDirectory() as folder:
        path = source
        if source == "-" or not os.path.isfile(source):
            path = os.path.join(folder, "stream.nvc")
            with input_stream(source) as pipe, open(path, "wb") as stored:
                shutil.copyfileobj(pipe if source != "-" else sys.stdin.buffer, stored)
        with input_stream(path) as file, input_stream(path) as again:
            yield file, again, os.fstat(file.fileno()).st_size


def _model(reader: StreamReader, model_file: Path | None, talk: Talk) -> LoadedModel | None:
    from neuralcodec.codecs.registry import by_identity

    try:
        return by_identity(reader.header.model_id, reader.header.model_name, model_file)
    except ModelError as error:
        if model_file is not None:
            raise
        talk.note(f"{error}: only what the container says is shown")
        return None


class _Latents:
    """Parsed frames by number, asked for in rising order; decoding runs ahead of the questions."""

    def __init__(self, reader: StreamReader, loaded: LoadedModel, talk: Talk) -> None:
        from neuralcodec.pipeline.decoder import DecodeOptions, StreamDecoder
        from neuralcodec.pipeline.device import choose_device

        self._items: Iterator[Any] = iter(())
        self._head: Any = None
        self._damage: list[Any] = []
        try:
            decoder = StreamDecoder(reader, loaded, DecodeOptions(pictures=False), choose_device("cpu"))
            self._items = decoder.run()
        except NcodecError as error:
            talk.note(f"{error}: only what the container says is shown")

    def of(self, packet: Any, first_frame: int) -> Any:
        """Parsed of a frame packet in the group that begins with ``first_frame``, None where it could not be read."""
        number = first_frame + packet.display_order
        while self._head is None or self._head.number < number:
            self._head = self._next()
            if self._head is None:
                return None
        return self._head.parsed if self._head.number == number else None

    def finish(self) -> list[Any]:
        """Reads to the end; gives the damage that was met."""
        while self._next() is not None:
            pass
        return self._damage

    def _next(self) -> Any:
        from neuralcodec.bitstream import Damage
        from neuralcodec.core.types import SidePacket

        for item in self._items:
            if isinstance(item, Damage):
                self._damage.append(item)
            elif not isinstance(item, SidePacket):
                return item
        return None


class _StillLatents:
    """The same of the frame, tiles, alpha and chroma of a still picture."""

    def __init__(self, reader: StreamReader, loaded: LoadedModel, talk: Talk) -> None:
        from neuralcodec.pipeline.decoder import DecodeOptions
        from neuralcodec.pipeline.device import choose_device
        from neuralcodec.pipeline.still_decoder import StillDecoder

        self._parts: Iterator[Any] = iter(())
        self._damage: list[Any] = []
        self._head: Any = None
        try:
            self._parts = StillDecoder(reader, loaded, DecodeOptions(), choose_device("cpu")).parts()
        except NcodecError as error:
            talk.note(f"{error}: only what the container says is shown")

    def of(self, packet: Any, first_frame: int) -> Any:
        """Parsed of a packet, None where it could not be read."""
        if self._head is None:
            self._head = self._next()
        if self._head is None or self._head.packet != packet:
            return None
        parsed, self._head = self._head.parsed, None
        return parsed

    def finish(self) -> list[Any]:
        """Reads to the end; gives the damage that was met."""
        while self._next() is not None:
            pass
        return self._damage

    def _next(self) -> Any:
        from neuralcodec.bitstream import Attachment, Damage

        for item in self._parts:
            if isinstance(item, Damage):
                self._damage.append(item)
            elif not isinstance(item, Attachment):
                return item
        return None


def _packet_line(packet: dict[str, Any]) -> str:
    """offset, bytes, kind, then the rest as key=value."""
    rest = {k: v for k, v in packet.items() if k not in ("offset", "bytes", "kind", "bits", "skipped_percent")}
    text = f"{packet['offset']:>10} {packet['bytes']:>8} {packet['kind']:<12}" + " ".join(
        f"{k}={_short(v)}" for k, v in rest.items()
    )
    for element, bits in packet.get("bits", {}).items():
        text += f" {element.replace(' ', '-')}={bits:.0f}b"
    for latent, percent in packet.get("skipped_percent", {}).items():
        text += f" {latent}-skipped={percent:.1f}%"
    return text


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
