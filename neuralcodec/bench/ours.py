"""Our codec measured: clips through real files, in memory, by the encoder and decoder that the commands use."""

from __future__ import annotations

import io
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from neuralcodec.bench.metrics import Planes, clip_psnr
from neuralcodec.bench.points import Clip, Point, Times, make_point
from neuralcodec.bench.scores import LONG_SECONDS, repeat, scores
from neuralcodec.bitstream import BUNDLE, Damage, FramePacket, StreamReader, StreamWriter
from neuralcodec.codecs.coding import Coded
from neuralcodec.codecs.complexity import INTER, INTRA, complexity, total
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.errors import MeasureError
from neuralcodec.core.types import Frame
from neuralcodec.entropy import MaskMode
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder, StreamEncoder
from neuralcodec.pipeline.decoder import DecodedFrame
from neuralcodec.pipeline.device import core_count
from neuralcodec.pipeline.stills import StillEncoder

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Variant:
    """A change to our codec that is compared with it. ``name`` stands behind the level in the codec's name; ``mask_modes`` as in
    EncodeOptions; ``widths`` replaces the level's width table."""

    name: str = ""
    mask_modes: tuple[MaskMode, ...] | None = None
    widths: bytes | None = None


def codec_name(level: int, variant: Variant | None = None) -> str:
    """"ours-l2", "ours-l2 derived", ..."""
    return f"ours-l{level}" + (f" {variant.name}" if variant and variant.name else "")


@dataclass(frozen=True)
class Encoded:
    """A stream and what its encoder counted: packet bytes by frame, bits by syntax element, (coded, all) elements by latent; seconds for all
    of it and until the first packet."""

    data: bytes
    kinds: str
    frame_bytes: list[int]
    syntax_bits: dict[str, float]
    elements: dict[str, tuple[int, int]]
    seconds: float
    first_seconds: float


def encode(clip: Clip, loaded: LoadedModel, options: EncodeOptions, device: torch.device = CPU) -> Encoded:
    """Encode a clip into a file in memory, without side streams; a picture by the encoder of pictures."""
    if clip.still and options.mask_modes is None:
        return _encode_still(clip, loaded, options, device)
    kinds: list[str] = []
    sizes: list[int] = []
    bits: Counter[str] = Counter()
    elements: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    first = 0.0

    def count(packet: FramePacket, coded: Coded, size: int) -> None:
        nonlocal first
        first = first or time.perf_counter() - started
        kind = "I" if packet.intra else "P"
        kinds.append(kind)
        sizes.append(size)
        for name, value in coded.parsed.bits.items():
            bits[f"{kind} {name}"] += value
        # The entropy coder's last word is rarely full: what is left of the packet counts with the framing.
        bits["framing"] += 8 * size - sum(coded.parsed.bits.values())
        for name, mask in coded.parsed.masks.items():
            elements[f"{kind} {name}"][0] += int(mask.sum())
            elements[f"{kind} {name}"][1] += mask.size

    started = time.perf_counter()
    file = io.BytesIO()
    encoder = StreamEncoder(loaded, clip.video, options, device)
    writer = StreamWriter(file, encoder.header, bundle=BUNDLE)
    encoder.run(iter(clip.frames), writer, count)
    writer.finish()
    seconds = time.perf_counter() - started
    bits["container"] = 8 * (writer.position - sum(sizes))
    return Encoded(file.getvalue(), "".join(kinds), sizes, dict(bits), {n: (c, a) for n, (c, a) in elements.items()}, seconds, first)


class _Source:
    """A clip's only picture, as the encoder of pictures takes it."""

    has_alpha, attachments = False, ()

    def __init__(self, clip: Clip) -> None:
        self.name, self.properties = clip.name, clip.video
        self._planes = clip.planes[0]

    def planes(self, top: int, bottom: int) -> Planes:
        y, u, v = self._planes
        return y[top:bottom], u[top // 2 : -(-bottom // 2)], v[top // 2 : -(-bottom // 2)]


def _encode_still(clip: Clip, loaded: LoadedModel, options: EncodeOptions, device: torch.device) -> Encoded:
    started = time.perf_counter()
    # In one piece, however large: tiles have other decoders than frames.
    coded = StillEncoder(loaded, options, device, whole_pixels=clip.video.width * clip.video.height).encode(_Source(clip), verify=False)
    seconds = time.perf_counter() - started
    (item,) = _results(coded.data, loaded, DecodeOptions(pictures=False), device)
    bits = {f"I {name}": value for name, value in item.parsed.bits.items()}
    bits |= {"framing": 8 * coded.picture_bytes - sum(bits.values()), "container": 8 * (len(coded.data) - coded.picture_bytes)}
    elements = {f"I {name}": (int(mask.sum()), mask.size) for name, mask in item.parsed.masks.items()}
    return Encoded(coded.data, "I", [coded.picture_bytes], bits, elements, seconds, seconds)


@dataclass(frozen=True)
class Decoded:
    """Pictures of a stream, seconds for all of them and until the first one."""

    frames: list[Frame]
    seconds: float
    first_seconds: float


def decode(data: bytes, loaded: LoadedModel, options: DecodeOptions | None = None, device: torch.device = CPU) -> Decoded:
    """Decode a stream of ``encode``. Raises MeasureError when a part of it is reported damaged."""
    started = time.perf_counter()
    frames, first = [], 0.0
    for item in _results(data, loaded, options or DecodeOptions(), device):
        if not frames:
            first = time.perf_counter() - started
        frames.append(item.frame)
    return Decoded(frames, time.perf_counter() - started, first)


def entropy_milliseconds(data: bytes, loaded: LoadedModel) -> tuple[float, float]:
    """Milliseconds a frame, on one thread: entropy decoding alone (median over frames), and the whole exact path with its networks, without
    pictures (mean)."""
    started = time.perf_counter()
    seconds = [item.parsed.entropy_seconds for item in _results(data, loaded, DecodeOptions(workers=1, threads=1, pictures=False), CPU)]
    whole = time.perf_counter() - started
    return 1000 * statistics.median(seconds), 1000 * whole / len(seconds)


def _results(data: bytes, loaded: LoadedModel, options: DecodeOptions, device: torch.device) -> Iterator[DecodedFrame]:
    for item in StreamDecoder(StreamReader(io.BytesIO(data), strict=True), loaded, options, device).run():
        if isinstance(item, Damage):
            raise MeasureError(f"the stream is damaged at byte {item.offset}: {item.reason}")
        yield item


def decode_options(clip: Clip, gop: int, threads: int) -> DecodeOptions:
    """``threads`` threads, spread over the groups of pictures that a clip has."""
    groups = -(-len(clip.frames) // gop) if gop else 1
    workers = max(1, min(threads, groups))
    return DecodeOptions(workers=workers, threads=max(1, threads // workers))


def measure(clip: Clip, loaded: LoadedModel, level: int, quality: float, *, gop: int = 32, effort: int = 0, variant: Variant | None = None,
            device: torch.device = CPU, workers: int | None = None, timed: bool = True, entropy: bool = False, threads: int | None = None,
            measures: Sequence[str] = (), keep: Callable[[list[Planes]], None] = lambda pictures: None) -> Point:
    """A clip at one level and quality, coded by ``workers`` workers of the encoder and decoded on ``threads`` threads (None: as many as there are
    cores). ``measures`` beyond PSNR as in metrics.MEASURES; ``keep`` gets the decoded pictures.

    ``extra`` of the point holds ``kmac_i`` and ``kmac_p``, thousands of multiply-accumulates of the decoder for a luma sample; with ``entropy``
    also ``entropy_ms`` and ``parse_ms`` (see ``entropy_milliseconds``). Raises UsageError for a level or quality that cannot be had."""
    variant = variant or Variant()
    if variant.widths is not None and 1 <= level <= loaded.levels:
        loaded = replace(loaded, widths=(*loaded.widths[: level - 1], variant.widths, *loaded.widths[level:]))
    # Groups of a fixed length, as the classical encoders' in the low delay conditions.
    options = EncodeOptions(level=level, quality=quality, gop=gop, workers=workers, scene_cuts=False, mask_modes=variant.mask_modes, effort=effort)
    coded = encode(clip, loaded, options, device)
    threads = threads or workers or core_count()
    how = decode_options(clip, gop, threads)
    decoded = decode(coded.data, loaded, how, device)
    times = None
    if timed:

        def decode_once() -> tuple[float, float]:
            again = decode(coded.data, loaded, how, device)
            return again.seconds, again.first_seconds

        spent = repeat(decode_once) if decoded.seconds < LONG_SECONDS else (decoded.seconds, decoded.first_seconds)
        times = Times(coded.seconds, coded.first_seconds, *spent, decoded.first_seconds, threads)
    pictures = [f.planes for f in decoded.frames]
    keep(pictures)
    parts = complexity(loaded.model, loaded.widths[level - 1])
    extra = {"kmac_i": float(total(parts, INTRA)) / 1000, "kmac_p": float(total(parts, INTER)) / 1000}
    if entropy:
        extra["entropy_ms"], extra["parse_ms"] = entropy_milliseconds(coded.data, loaded)
    return make_point(
        clip, codec_name(level, variant), quality, clip_psnr(clip.planes, pictures), bits=8 * len(coded.data), file_bytes=len(coded.data),
        kinds=coded.kinds, frame_bits=[8 * n for n in coded.frame_bytes], times=times, syntax_bits=coded.syntax_bits,
        skipped={n: 1 - c / a for n, (c, a) in coded.elements.items()}, extra=extra, **scores(clip, pictures, measures))
