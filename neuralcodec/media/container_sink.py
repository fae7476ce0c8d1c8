"""Writing through PyAV: mp4, mov, mkv and webm with tags, exact time stamps and copied side streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from neuralcodec.core.errors import OutputError, UsageError
from neuralcodec.core.types import Frame, SidePacket, SideStream, VideoProperties
from neuralcodec.media.own_priority import own_priority
from neuralcodec.media.pixels import picture_of
from neuralcodec.media.sides import add_side_stream, keep_tags, refusal
from neuralcodec.media.sink import PendingFile, Sink, nominal_rate

# Encoder options: visually lossless, and lossless (None: the encoder has no such mode that is known here).
_ENCODERS: dict[str, tuple[dict[str, str], dict[str, str] | None]] = {
    "libx264": ({"crf": "12", "preset": "fast"}, {"qp": "0", "preset": "fast"}),
    "libx265": (
        {"crf": "12", "preset": "fast", "x265-params": "log-level=none"},
        {"preset": "fast", "x265-params": "lossless=1:log-level=none"},
    ),
    "libvpx-vp9": (
        {"crf": "12", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
        {"lossless": "1", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
    ),
    "libsvtav1": ({"crf": "14", "preset": "8"}, None),
    "libaom-av1": ({"crf": "12", "cpu-used": "6", "row-mt": "1"}, {"crf": "0", "aom-params": "lossless=1"}),
    "h264_nvenc": ({"rc": "vbr", "cq": "14"}, {"preset": "lossless"}),
    "hevc_nvenc": ({"rc": "vbr", "cq": "14"}, {"preset": "lossless"}),
    "ffv1": ({}, {}),
    # 118 is FFmpeg's FF_QP2LAMBDA: a constant quantiser of 2.
    **dict.fromkeys(("mjpeg", "mpeg4", "mpeg2video"), ({"flags": "+qscale", "global_quality": "236"}, None)),
}
# H.264 and HEVC crop in steps of a chroma sample, so that 4:2:0 of odd size has no place there.
_EVEN_ONLY = ("libx264", "libx265", "h264", "hevc", "mpeg4", "mpeg2")
_CHROMA_LOCATIONS = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}
_INT32 = 2**31 - 1


class ContainerSink(Sink):
    """A video stream encoded by FFmpeg, and side streams copied packet by packet."""

    def __init__(
        self,
        file: PendingFile,
        container_format: str,
        properties: VideoProperties,
        side_streams: Sequence[SideStream],
        metadata: Mapping[str, str],
        chapters: Sequence[dict[str, Any]],
        vcodec: str | None,
        lossless: bool,
    ) -> None:
        super().__init__(properties)
        self._file, self._format = file, container_format
        self._codec, options = self._choose(vcodec, lossless)
        self._shift: Fraction | None = None
        self._waiting: list[SidePacket] = []
        self._reformatter = VideoReformatter()
        self._broken: set[int] = set()
        self._container: av.container.OutputContainer | None = None
        try:
            muxer = self._muxer_options(side_streams)
            self._container = av.open("file:" + file.path, "w", format=container_format, options=muxer)
            self._video = self._add_video(options)
            self._container.metadata.update(keep_tags(dict(metadata)))
            if chapters:
                self._container.set_chapters(list(chapters))
            self._sides = self._add_sides(side_streams)
        except (FFmpegError, ValueError, OSError) as error:
            self.abort()
            raise OutputError(
                f"{file.target}: {self._codec} in {container_format} cannot be written ({_why(error)})"
            ) from error
        except BaseException:
            self.abort()
            raise

    # --- setting up -------------------------------------------------------------------------------------------------

    def _choose(self, vcodec: str | None, lossless: bool) -> tuple[str, dict[str, str]]:
        """The encoder and its options."""
        odd = self.properties.width % 2 or self.properties.height % 2
        codec = vcodec or ("libvpx-vp9" if odd or self._format == "webm" else "libx264")
        if codec not in av.codecs_available:
            raise UsageError(f"unknown video encoder {codec!r}")
        try:
            encoder = av.Codec(codec, "w")
        except ValueError as error:
            raise UsageError(f"{codec!r} is no video encoder") from error
        if encoder.type != "video":
            raise UsageError(f"{codec!r} is no video encoder")
        if odd and vcodec is None and self._format != "webm":
            self._note("odd picture size: coded as VP9, because H.264 in 4:2:0 has even sizes only")
        if odd and encoder.canonical_name.startswith(_EVEN_ONLY) or odd and codec.startswith(_EVEN_ONLY):
            size = f"{self.properties.width}x{self.properties.height}"
            raise UsageError(f"{codec} cannot code the odd size {size} in 4:2:0: leave the encoder to us, or take ffv1")
        plain, exact = _ENCODERS.get(codec, ({}, None))
        if lossless and exact is None:
            raise UsageError(f"no lossless mode is known for {codec}: take libx264, libx265, libvpx-vp9 or ffv1")
        self._pix_fmt = self._pixel_format(encoder)
        return codec, dict(exact if lossless else plain)

    def _pixel_format(self, encoder: av.Codec) -> str:
        formats = [fmt.name for fmt in encoder.video_formats or []]
        if not formats or "yuv420p" in formats:
            return "yuv420p"
        if "yuvj420p" in formats and self.properties.colour.full_range:
            return "yuvj420p"
        self._note(f"{encoder.name} does not take 8-bit 4:2:0: pictures are converted to {formats[0]}")
        return formats[0]

    def _muxer_options(self, side_streams: Sequence[SideStream]) -> dict[str, str]:
        if self._format not in ("mp4", "mov"):
            return {}
        ticks = self.properties.time_base.denominator
        if ticks > _INT32:
            self._note(f"{self._format} cannot count time in {self.properties.time_base} s: time stamps are rounded")
            return {"movflags": "+faststart"}
        # The movie's time scale counts where streams start and how much of them is played: exact for all, if it can.
        wanted = lcm(ticks, *(side.time_base.denominator for side in side_streams if side.kind == "audio"))
        movie = next((scale for scale in (wanted, lcm(ticks, 1000), ticks) if scale <= _INT32), ticks)
        movie *= -(-1000 // movie)
        # MP4's own choice of a track's time scale (at least 10000) would give back other numbers for the same instants.
        return {"movflags": "+faststart", "video_track_timescale": str(ticks), "movie_timescale": str(movie)}

    def _add_video(self, options: dict[str, str]) -> av.VideoStream:
        properties, colour = self.properties, self.properties.colour
        stream = self._container.add_stream(
            self._codec,
            rate=nominal_rate(properties).limit_denominator(1001000),
            width=properties.width,
            height=properties.height,
            time_base=properties.time_base,
        )
        context = stream.codec_context
        context.pix_fmt = self._pix_fmt
        context.sample_aspect_ratio = properties.sample_aspect_ratio
        context.color_primaries, context.color_trc, context.colorspace = (
            colour.primaries,
            colour.transfer,
            colour.matrix,
        )
        context.color_range = {None: 0, False: 1, True: 2}[colour.full_range]
        context.flags |= int(Flags.frame_duration)
        if colour.chroma_location in _CHROMA_LOCATIONS:
            options["chroma_sample_location"] = _CHROMA_LOCATIONS[colour.chroma_location]
        options["strict"] = "unofficial"  # else mjpeg refuses limited range
        context.options = options
        if properties.rotation:
            stream.set_display_rotation(-properties.rotation)
        if properties.sample_aspect_ratio != 1 and self._format in ("matroska", "webm") and self._codec == "libvpx-vp9":
            self._note("the sample aspect ratio is lost: neither VP9 nor PyAV's Matroska writer can store it")
        return stream

    def _add_sides(self, side_streams: Sequence[SideStream]) -> list[av.stream.Stream | None]:
        streams: list[av.stream.Stream | None] = []
        for index, side in enumerate(side_streams):
            if side.kind == "data" and "timecode" in side.metadata and self._format != "webm":
                # FFmpeg's muxers make a time code track, or tag, out of this themselves.
                self._video.metadata["timecode"] = side.metadata["timecode"]
                streams.append(None)
                continue
            reason = refusal(self._format, side)
            if reason:
                self._note(f"{side.kind} stream {index} left out: {self._format} {reason}")
            streams.append(None if reason else add_side_stream(self._container, side))
        self._time_bases = [side.time_base for side in side_streams]
        return streams

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, frame: Frame) -> None:
        base = self.properties.time_base
        if self._shift is None:
            self._set_shift(frame.pts * base)
        picture = picture_of(frame.planes)
        if self._pix_fmt == "yuvj420p":
            picture = picture_of(frame.planes, "yuvj420p")
        elif self._pix_fmt != "yuv420p":
            picture = self._reformatter.reformat(picture, format=self._pix_fmt)
        picture.pts = frame.pts + int(self._shift / base)
        picture.time_base = base
        picture.duration = frame.duration
        if self._format in ("matroska", "webm") and (picture.pts * base * 1000).denominator != 1:
            self._note(f"{self._format} counts time in milliseconds: time stamps are rounded to them")
        self._encode(picture)

    def _set_shift(self, first: Fraction) -> None:
        """Containers cut off what lies before zero, so a video that starts there moves, together with its sound."""
        self._shift = max(-first, Fraction(0))
        if self._shift:
            self._note(f"the video starts {float(-first):g} s before zero: all time stamps are moved to start at zero")
        for packet in self._waiting:
            self._mux_side(packet)
        self._waiting.clear()

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            with own_priority():
                packets = self._video.encode(picture)
            self._container.mux(packets)
        except BrokenPipeError:
            raise
        except (FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self._file.target}: {self._codec} failed: {_why(error)}") from error

    def write_side(self, packet: SidePacket) -> None:
        """Append a packet of a side stream; dropped where the format has no place for the stream."""
        if self._shift is None:
            self._waiting.append(packet)
        else:
            self._mux_side(packet)

    def _mux_side(self, side: SidePacket) -> None:
        stream = self._sides[side.stream]
        if stream is None or stream.type == "attachment" or side.stream in self._broken:
            return
        base = self._time_bases[side.stream]
        shift = round(self._shift / base)
        packet = av.Packet(side.data)
        packet.stream, packet.time_base = stream, base
        packet.pts = None if side.pts is None else side.pts + shift
        packet.dts = None if side.dts is None else side.dts + shift
        packet.duration = side.duration
        packet.is_keyframe = side.keyframe
        try:
            self._container.mux(packet)
        except BrokenPipeError:
            raise
        except (FFmpegError, ValueError) as error:
            self._broken.add(side.stream)
            self._note(
                f"{stream.type} stream {side.stream} stops early: {self._format} refuses a packet ({_why(error)})"
            )

    def close(self) -> None:
        """Finish encoding, write the index, give the file its name. Raises OutputError, also when it has no frame."""
        if self._container is None:
            return
        if self._shift is None:
            self.abort()
            raise OutputError(f"{self._file.target}: there was not a single frame to write")
        try:
            self._encode(None)
            self._container.close()
        except (FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise (
                error if isinstance(error, OutputError) else OutputError(f"{self._file.target}: {_why(error)}")
            ) from error
        self._container = None
        self._file.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except (FFmpegError, OSError, ValueError):
                pass
        self._file.discard()


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
