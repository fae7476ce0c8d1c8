"""A stream to frames. Groups of pictures decode alone: several at once where cores allow; within one, parsing runs ahead of pictures."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from neuralcodec.bitstream import (
    Arithmetic,
    Damage,
    EndOfStream,
    FramePacket,
    GopStart,
    Packet,
    StreamHeader,
    StreamReader,
)
from neuralcodec.codecs.coders import coder_for, place
from neuralcodec.codecs.coding import FlagshipCoder, Parsed
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.registry import describe
from neuralcodec.core.errors import ModelError, NcodecError, StreamError, UsageError
from neuralcodec.core.types import Frame, SidePacket
from neuralcodec.nn.layout import tensors_to_planes
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.device import core_count, prepare_exact
from neuralcodec.pipeline.jobs import Job, JobRunner

WAITING_FRAMES = 64
"""Parsed or compressed frames that may wait; they are small."""
PARSE_AHEAD = 3


@dataclass(frozen=True)
class DecodeOptions:
    """``level`` None: the stream's own; a lower complexity plays with drift. ``frames`` (first, end) by number, end None for all.

    ``pictures`` False stops after the latents: frames come with empty planes and ``on_parsed`` sees them."""

    level: int | None = None
    frames: tuple[int, int | None] = (0, None)
    workers: int | None = None
    threads: int | None = None
    pictures: bool = True


@dataclass(frozen=True)
class DecodedFrame:
    """``number`` counts from the stream's start. ``frame`` is None when only latents were asked for."""

    number: int
    packet: FramePacket
    parsed: Parsed
    frame: Frame | None


Result = DecodedFrame | SidePacket | Damage


def complete_header(header: StreamHeader, loaded: LoadedModel) -> StreamHeader:
    """The header, with what a bare picture leaves to its model: the whole identity, the name, the width tables.

    Raises ModelError for another model than the stream's, StreamError for a level that the model does not have."""
    own = loaded.key if header.bare else loaded.identity
    if header.model_id != own:
        raise ModelError(f"the stream was made with {describe(header.model_id, header.model_name)}, not with {describe(own, loaded.name if header.model_name else '')}")
    if not header.bare:
        return header
    if header.level > loaded.levels:
        raise StreamError(f"the stream was made for level {header.level}; its model has {loaded.levels}")
    return replace(header, model_id=loaded.identity, model_name=loaded.name, width_tables=loaded.widths)


class StreamDecoder:
    """Decodes one stream with its model. ``prepared``: the model stands on the device and has the level's widths already, because an encoder is at
    work with it at the same time; then it is not touched.

    Raises UsageError for a level that the stream has no widths for or is locked against, ModelError for another model than the stream's,
    StreamError for width tables that do not fit it, or a word on its arithmetic that is not the model's."""

    def __init__(self, reader: StreamReader, loaded: LoadedModel, options: DecodeOptions, device: torch.device, *, prepared: bool = False) -> None:
        header = complete_header(reader.header, loaded)
        if (header.arithmetic is Arithmetic.EXACT) != loaded.exact:
            raise StreamError(f"the stream says that its pictures are {'' if header.arithmetic is Arithmetic.EXACT else 'not '}exact; those of "
                              f"model {loaded.name!r} are{'' if loaded.exact else ' not'}")
        if header.loop_filter and loaded.intra_only:
            raise StreamError(f"the stream has loop filters, which model {loaded.name!r} cannot have")
        level = header.level if options.level is None else options.level
        if not 1 <= level <= header.levels:
            raise UsageError(f"level {level}: the stream has levels {', '.join(map(str, range(1, header.levels + 1)))}")
        if header.level_locked and level != header.level:
            raise UsageError(f"the stream decodes at its own level {header.level} only")
        first, end = options.frames
        if first < 0 or (end is not None and end <= first):
            raise UsageError(f"frames {first}:{end}: an empty range")
        self.reader, self.loaded, self.options, self.device, self.level = reader, loaded, options, device, level
        self.size = (header.video.height, header.video.width)
        if prepared:
            return
        try:
            apply_widths(loaded.model, header.width_tables[level - 1])
        except ValueError as e:
            raise StreamError(f"the stream's width table does not fit its model: {e}") from e
        place(loaded.model, device)
        prepare_exact(device)

    def run(self) -> Iterator[Result]:
        """Frames in the order of the stream, side packets and damage reports between them."""
        groups = self._group_count()
        cores = core_count() if self.device.type == "cpu" else 2
        workers = max(1, min(self.options.workers or cores, groups or cores))
        self._threads = self.options.threads or max(1, cores // workers)
        runner: JobRunner = JobRunner(self._decode_group, workers=workers, budget=WAITING_FRAMES * workers,
                                      cost=lambda item: int(isinstance(item[0], Packet)), result_limit=4)
        yield from runner.run(self._feed)

    def _group_count(self) -> int | None:
        index = self.reader.index()
        return len(index.entries) if index else None

    def _feed(self, start: Callable[[], None], add: Callable[[tuple], None]) -> None:
        first, end = self.options.frames
        index = self.reader.index()
        if first and index is not None:
            if first >= index.frame_count:
                raise UsageError(f"frame {first}: the stream has {index.frame_count}")
            self.reader.seek_gop(index.gop_of_frame(first))
        start()
        before = 0  # frames of the groups before; a bare picture has no group start
        seen = 0
        for item in self.reader:
            content = item.content if isinstance(item, Packet) else item
            if isinstance(content, GopStart):
                before = content.first_frame
                if end is not None and before >= end:
                    return
                start()
                add((content,))
            elif isinstance(content, FramePacket):
                number = before + content.display_order
                seen = max(seen, number + 1)
                add((item, number))
            elif isinstance(content, (SidePacket, Damage)):
                add((content,))
            elif isinstance(content, EndOfStream):
                break
        if first >= seen and seen:
            raise UsageError(f"frame {first}: the stream has {seen}")

    def _decode_group(self, job: Job[tuple, Result]) -> None:
        torch.set_num_threads(self._threads)
        coder = coder_for(self.loaded.model, self.device)
        header = self.reader.header
        coder.follow(header.hypotheses, header.sparse, header.loop_filter, header.directed, header.adaptive, header.corrected)
        parsed: queue.Queue = queue.Queue(PARSE_AHEAD)
        over = threading.Event()
        thread = threading.Thread(target=self._parse_group, args=(job, coder, parsed, over), daemon=True)
        thread.start()
        reference = None
        try:
            while (item := parsed.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if not isinstance(item, tuple):
                    job.put(item)
                    continue
                packet, number, latents = item
                frame = None
                if self.options.pictures:
                    kind = "I" if packet.intra else "P"
                    reference = coder.reconstruct(kind, latents, packet.quality, reference)
                    planes = tensors_to_planes(reference.y, reference.uv, *self.size) if self._wanted(number) else None
                    frame = Frame(planes, packet.pts, packet.duration) if planes else None
                if self._wanted(number):
                    job.put(DecodedFrame(number, packet, latents, frame))
        finally:
            over.set()
            thread.join(timeout=30)

    def _wanted(self, number: int) -> bool:
        first, end = self.options.frames
        return number >= first and (end is None or number < end)

    def _parse_group(self, job: Job[tuple, Result], coder: FlagshipCoder, out: queue.Queue, over: threading.Event) -> None:
        torch.set_num_threads(1)

        def put(item: object) -> bool:
            while not over.is_set():
                try:
                    out.put(item, timeout=0.2)
                    return True
                except queue.Full:
                    continue
            return False

        try:
            previous: Parsed | None = None
            broken = False
            for item in job:
                content = item[0]
                if isinstance(content, GopStart) or (broken and isinstance(content, Packet)):
                    continue
                if not isinstance(content, Packet):
                    if not put(content):
                        return
                    continue
                packet: FramePacket = content.content
                end = self.options.frames[1]
                if end is not None and item[1] >= end:
                    continue
                try:
                    if packet.references not in ((1,), ()) or packet.display_order != packet.decode_order:
                        raise StreamError("the model refers to the previous frame only")
                    previous = coder.parse("I" if packet.intra else "P", packet.payload, packet.modes, packet.quality, self.size, previous)
                except NcodecError as e:
                    broken = True
                    if self.reader.strict:
                        raise StreamError(f"frame {item[1]} at byte {content.offset}: {e}") from e
                    if not put(Damage(content.offset, content.size, f"frame {item[1]}: {e}", True)):
                        return
                    continue
                if not put((packet, item[1], previous)):
                    return
            put(None)
        except BaseException as e:  # noqa: BLE001 - handed to the picture thread
            put(e)
