"""Reading through PyAV: containers and single pictures."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from neuralcodec.core.errors import InputError
from neuralcodec.core.types import SidePacket, VideoProperties
from neuralcodec.media.clock import Clock
from neuralcodec.media.pixels import Planes, ToYuv420
from neuralcodec.media.sides import describe, keep_tags, side_packet, skipped_samples
from neuralcodec.media.source import Picture, Source

_ATTACHED_PICTURE = int(av.stream.Disposition.attached_pic)
# FFmpeg "plays" plain text and binary screens of old machines as video; nobody means that here.
_NO_VIDEO_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "ansi"}
_FILE_TAGS = ("major_brand", "minor_version", "compatible_brands")
# How far (seconds) other streams may lag behind the video in a badly interleaved file before a cut gives up on them.
_LAG = 10
# Seconds by which the last packet may miss the announced end without a word.
_MISSING = Fraction(1, 2)
# Pictures that are decoded ahead while waiting for a first audio packet.
_PREFETCH_PICTURES = 4
_READ_ERRORS = (FFmpegError, ValueError, EOFError)


class ContainerSource(Source):
    """The first real video stream of anything that PyAV opens, with everything else as side streams."""

    def __init__(
        self,
        file: Any,
        name: str,
        *,
        audio: bool = True,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name)
        self._stop: Fraction | None = None
        self._given_format = container_format
        self._raw = container_format == "rawvideo"
        self._end = Fraction(0)
        self._complete = audio
        if isinstance(file, str):
            # With the protocol spelled out, a name such as "a:b.mp4" or "concat:x" is nothing but a file's name.
            file, options = "file:" + file, {"pattern_type": "none"} | (options or {})
            if container_format != "image2" and not _looks_like_picture(name):
                options.pop("pattern_type")
        try:
            self._container = av.open(file, format=container_format, options=options)
        except _READ_ERRORS as error:
            if isinstance(file, str) and container_format is None and _is_mp4(name):
                raise InputError(
                    f"{name}: cut off or damaged (an MP4 file without its index, the moov atom)"
                ) from error
            raise InputError(f"{name}: no media file that can be read ({_reason(error)})") from error
        try:
            self._open_streams(audio)
            self._first = self._prefetch()
            self._describe()
        except BaseException:
            self.close()
            raise

    # --- what the file is -------------------------------------------------------------------------------------------

    def _open_streams(self, audio: bool) -> None:
        container = self._container
        if container.format.name in _NO_VIDEO_FORMATS:
            raise InputError(f"{self.name}: a text or binary file, not a video")
        pictures = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
        if not pictures:
            kinds = sorted({s.type for s in container.streams}) or ["nothing"]
            raise InputError(f"{self.name}: no video stream (only {', '.join(kinds)})")
        self._video = pictures[0]
        if self._video.codec_context is None:
            raise InputError(f"{self.name}: the video's codec is unknown here")
        if len(pictures) > 1:
            self._note(f"only the first of {len(pictures)} video streams is taken")
        self._video.thread_type = "AUTO"
        self._side_index: dict[int, int] = {}
        self._heard: set[int] = set()
        for stream in container.streams:
            if stream is self._video or (stream.type == "audio" and not audio):
                continue
            if stream.type == "video":
                if int(stream.disposition) & _ATTACHED_PICTURE:
                    self._note("the cover picture is left out")
                continue
            side = describe(stream)
            if side is None:
                self._note(f"{stream.type} stream {stream.index} has an unknown codec and is left out")
                continue
            self._side_index[stream.index] = len(self.side_streams)
            self.side_streams.append(side)
        self.metadata = {k: v for k, v in keep_tags(dict(container.metadata)).items() if k not in _FILE_TAGS}
        self.chapters = list(container.chapters())
        self.frame_count_hint = self._video.frames or None

    def _prefetch(self) -> list[Picture | SidePacket]:
        """Everything up to the first picture and (within limits) the first packet of each audio stream.

        Only the first picture tells rotation, colour tags and the true pixel format; only an audio stream's first
        packet tells how many samples are to be skipped.
        """
        self._stream = self._decode()
        events: list[Picture | SidePacket] = []
        pictures = 0
        silent = {index for index, side in enumerate(self.side_streams) if side.kind == "audio"}
        for event in self._stream:
            events.append(event)
            if isinstance(event, Picture):
                pictures += 1
                self._first_picture = event.payload if pictures == 1 else self._first_picture
            else:
                silent.discard(event.stream)
            if pictures and (not silent or pictures >= _PREFETCH_PICTURES):
                break
        if not pictures:
            raise InputError(f"{self.name}: no picture could be decoded")
        return events

    def _limit(self, frames: tuple[int, int | None] | None) -> None:
        super()._limit(frames)
        if self._range and self._range[0]:
            for side in self.side_streams:
                side.parameters.pop("initial_padding", None)  # the samples to be skipped are cut off

    def _describe(self) -> None:
        video, first = self._video, self._first_picture
        form = self._container.format.name
        still = not self._given_format and (form == "image2" or form.endswith("_pipe"))
        rate = video.average_rate or video.guessed_rate
        self._convert = ToYuv420(first, _chroma_location(video), self._note)
        if first.interlaced_frame:
            self._note("the source is interlaced: its fields are coded together as frames")
        aspect = video.sample_aspect_ratio
        self.properties = VideoProperties(
            width=first.width,
            height=first.height,
            time_base=self._time_base,
            frame_rate=None if still else rate,
            sample_aspect_ratio=Fraction(aspect) if aspect and aspect > 0 else Fraction(1),
            rotation=self._rotation(first),
            colour=self._convert.colour,
            still=still,
        )
        if still:
            self.frame_count_hint = 1

    def _rotation(self, picture: av.VideoFrame) -> int:
        side = picture.side_data.get("DISPLAYMATRIX")
        if side is not None and len(bytes(side)) >= 36:
            a, b, _, c, d = struct.unpack("<5i", bytes(side)[:20])
            if a * d - b * c < 0:
                self._note("the source asks players to mirror the picture: that is not kept")
        clockwise = -picture.rotation % 360
        if clockwise % 90:
            self._note(f"a rotation by {clockwise} degrees is kept as {round(clockwise / 90) * 90 % 360}")
        return round(clockwise / 90) * 90 % 360

    # --- its packets ------------------------------------------------------------------------------------------------

    def _events(self) -> Iterator[Picture | SidePacket]:
        yield from self._first
        self._first = []
        yield from self._stream

    def _planes(self, payload: av.VideoFrame) -> Planes:
        return self._convert(payload)

    def _stop_at(self, time: Fraction) -> None:
        self._stop = time

    def _decode(self) -> Iterator[Picture | SidePacket]:
        """Pictures with rising pts and side packets, in the file's order."""
        video = self._video
        rate = video.average_rate or video.guessed_rate or Fraction(25)
        self._time_base = video.time_base or 1 / rate
        clock = Clock(max(round(1 / (rate * self._time_base)), 1), self._note)
        self._damaged = count = 0
        for packet in self._demux():
            if packet.pts is not None and packet.time_base:
                self._end = max(self._end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index == video.index:
                if self._stop is not None:
                    continue
                for picture in self._pictures(packet):
                    pts, duration = clock.stamp(picture)
                    count += 1
                    yield Picture(pts, duration, picture)
            elif packet.size and packet.stream.index in self._side_index:
                index = self._side_index[packet.stream.index]
                self._note_padding(index, packet)
                yield side_packet(packet, index)
        if self._stop is None:
            self._report_end(count)

    def _pictures(self, packet: av.Packet) -> list[av.VideoFrame]:
        if self._raw and packet.is_corrupt:  # the demuxer's word for a partial frame at the end
            return []
        try:
            pictures = packet.decode()
        except _READ_ERRORS:
            self._damaged += 1
            return []
        self._damaged += sum(picture.is_corrupt for picture in pictures)
        return [picture for picture in pictures if picture.width and picture.height]

    def _demux(self) -> Iterator[av.Packet]:
        """Packets of the video and the carried streams; ends at damage, and then the decoder is still emptied."""
        streams = [self._container.streams[index] for index in (self._video.index, *self._side_index)]
        packets = self._container.demux(streams)
        late = {i for i in self._side_index if self._container.streams[i].type == "audio"}
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except _READ_ERRORS as error:
                self._note(f"the file is damaged or cut off ({_reason(error)}): reading ends there")
                for stream in streams[:1]:
                    flush = av.Packet()
                    flush.stream = stream
                    yield flush
                return
            yield packet
            if self._stop is not None and packet.dts is not None and packet.stream.time_base:
                time = packet.dts * packet.stream.time_base
                if time >= self._stop:
                    late.discard(packet.stream.index)
                if not late or time > self._stop + _LAG:
                    return

    def _note_padding(self, index: int, packet: av.Packet) -> None:
        """Samples to be skipped at a stream's start belong to its parameters (Matroska stores them there)."""
        side = self.side_streams[index]
        if side.kind == "audio" and index not in self._heard:
            self._heard.add(index)
            if (skipped := skipped_samples(packet)[0]) and not (self._range and self._range[0]):
                side.parameters["initial_padding"] = str(skipped)

    def _report_end(self, count: int) -> None:
        if count == 0:
            return
        if self._damaged:
            self._note(f"{self._damaged} damaged pictures or packets in the source")
        announced = self._video.frames
        if announced and count < announced and not self._raw:
            self._note(f"the source announces {announced} frames, but only {count} could be decoded")
        elif self._complete and self._container.duration:
            end = Fraction(self._container.duration + (self._container.start_time or 0), av.time_base)
            if self._end < end - _MISSING:
                self._note(
                    f"the source ends early: it announces {float(end):.2f} s, but stops at {float(self._end):.2f} s"
                )

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        self._container.close()


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    log = getattr(error, "log", None)
    detail = log[1][2].strip() if log and log[1] else ""
    return f"{text}; {detail}" if detail and len(detail) < 120 and "\n" not in detail else text


def _looks_like_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in (
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
    )


def _is_mp4(name: str) -> bool:
    with open(name, "rb") as file:
        return file.read(8)[4:] == b"ftyp"


def _chroma_location(video: av.VideoStream) -> int:
    """AVChromaLocation of a stream (0 unspecified, 1 left, 2 centre, 3 top left).

    PyAV does not expose it, but Matroska's header does: so a header for this stream is written into memory and its
    ChromaSitingHorz and ChromaSitingVert (1 collocated, 2 half-way) are read back.
    """
    try:
        with av.open(buffer := io.BytesIO(), "w", format="matroska") as output:
            output.add_stream_from_template(video)
            output.start_encoding()
            header = buffer.getvalue()
    except (FFmpegError, ValueError):
        return 0
    # ID, size 1, value, twice in a row: six fixed bytes make an accidental match impossible in practice.
    found = re.search(rb"\x55\xb7\x81([\x01\x02])\x55\xb8\x81([\x01\x02])", header)
    if found is None:
        return 0
    return {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4}[found[1][0], found[2][0]]
