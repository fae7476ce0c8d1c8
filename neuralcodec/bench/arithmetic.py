"""``ncodec bench --arithmetic``: an exact model beside its twin in floating point, in time and in rate.

Time: both decode the same payloads, in turn. Rate: each encodes on its own; besides, twins of which one part is exact, which says where the cost
arises.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from neuralcodec.bench import ours
from neuralcodec.bench.compare import VariantRow, variant_row
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Clip, Point
from neuralcodec.bitstream import BUNDLE, Arithmetic, FramePacket, GopStart, Packet, StreamReader, StreamWriter
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.twins import PARTS, float_twin, with_exact_part
from neuralcodec.pipeline import EncodeOptions

ROUNDS = 7
FLOAT, EXACT = "float", "exact"


@dataclass(frozen=True)
class SpeedRow:
    """Seconds of decoding a clip, by round, of the exact model and of its float twin. ``frames`` of the clip."""

    codec: str
    frames: int
    exact: tuple[float, ...]
    floating: tuple[float, ...]

    @property
    def least(self) -> float:
        """The exact model's least time for the twin's."""
        return min(self.exact) / min(self.floating)

    @property
    def median(self) -> float:
        """The median over rounds of the exact model's time for the twin's."""
        return statistics.median(e / f for e, f in zip(self.exact, self.floating, strict=True))


def relabelled(data: bytes, loaded: LoadedModel) -> bytes:
    """A stream with the same frames that names another model, one with the same entropy path."""
    reader, file = StreamReader(io.BytesIO(data), strict=True), io.BytesIO()
    arithmetic = Arithmetic.EXACT if loaded.exact else Arithmetic.FLOAT_PICTURES
    writer = StreamWriter(file, replace(reader.header, model_id=loaded.identity, model_name=loaded.name, arithmetic=arithmetic), bundle=BUNDLE)
    for item in reader:
        content = item.content if isinstance(item, Packet) else item
        if isinstance(content, GopStart):
            writer.start_gop(content.pts, frame_step=content.frame_step, frame_duration=content.frame_duration, quality=content.quality)
        elif isinstance(content, FramePacket):
            writer.write_frame(content)
    writer.finish()
    return file.getvalue()


def speeds(clip: Clip, loaded: LoadedModel, levels: Sequence[int], quality: float, *, gop: int, threads: int, device: torch.device = ours.CPU,
           rounds: int = ROUNDS, on_step: Callable[[str], None] = lambda text: None) -> list[SpeedRow]:
    """Decode a clip's stream at each level with the exact model and with its float twin, in turn. ``on_step`` hears of what comes next.

    Raises UsageError for a model that is not exact, a level that it lacks and a quality that there is none of."""
    twin, how, rows = float_twin(loaded), ours.decode_options(clip, gop, threads), []
    for level in levels:
        on_step(f"{clip.name}: decoding at level {level}")
        stream = ours.encode(clip, loaded, EncodeOptions(level=level, quality=quality, gop=gop), device).data
        pair = ((stream, loaded), (relabelled(stream, twin), twin))
        for data, model in pair:
            ours.decode(data, model, how, device)  # what is slow the first time is no part of this question
        times: tuple[list[float], list[float]] = [], []
        for number in range(rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                times[which].append(ours.decode(*pair[which], how, device).seconds)
        rows.append(SpeedRow(ours.codec_name(level), len(clip.frames), *map(tuple, times)))
    return rows


def costs(clip: Clip, loaded: LoadedModel, levels: Sequence[int], qualities: Sequence[float], *, gop: int, threads: int,
          on_step: Callable[[str], None] = lambda text: None) -> list[VariantRow]:
    """BD-rate against the float twin, of the exact model at each level, and at the first one of twins with a single exact part. On the CPU, where the
    twin computes in float32. ``on_step`` hears of what comes next; raises UsageError as ``speeds``."""

    def points(model: LoadedModel, level: int, name: str) -> list[Point]:
        found = []
        for quality in qualities:
            on_step(f"{clip.name}: level {level}, {name}, quality {quality:g}")
            found.append(ours.measure(clip, model, level, quality, gop=gop, threads=threads, variant=Variant(name), timed=False))
        return found

    twin, rows = float_twin(loaded), []
    for level in levels:
        plain = points(twin, level, FLOAT)
        rows += [variant_row(plain, plain), variant_row(points(loaded, level, EXACT), plain)]
        if level == levels[0]:
            rows += [variant_row(points(with_exact_part(loaded, part), level, f"{part} exact"), plain) for part in PARTS]
    return rows


def step_count(levels: Sequence[int], qualities: Sequence[float]) -> int:
    """How often ``speeds`` and ``costs`` call ``on_step`` for a clip."""
    return len(levels) + len(qualities) * (2 * len(levels) + len(PARTS))
