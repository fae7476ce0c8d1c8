"""Whether times can be trusted: the timing part of a bench twice, and how far the two runs lie apart in their ratio to
x264's decoding."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from neuralcodec.bench import classical, ours
from neuralcodec.bench.conditions import CONDITIONS
from neuralcodec.bench.plan import SPEED_ANCHOR, SPEED_SETTING
from neuralcodec.bench.points import Clip
from neuralcodec.bench.scores import repeat
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.errors import MeasureError
from neuralcodec.pipeline import EncodeOptions

UNSTEADY = 10
"""Exit code when two runs differ by more than BOUND_PERCENT."""
BOUND_PERCENT = 10.0
_ROUNDS = 3


@dataclass(frozen=True)
class Steadiness:
    """Decoding seconds of a codec in two runs, and for each second of SPEED_ANCHOR's decoding in the same run."""

    codec: str
    seconds: tuple[float, float]
    ratios: tuple[float, float]

    @property
    def percent(self) -> float:
        """How far the second ratio lies from the first."""
        return 100 * abs(self.ratios[1] / self.ratios[0] - 1)


def check(
    clip: Clip,
    loaded: LoadedModel,
    levels: Sequence[int],
    quality: float,
    *,
    gop: int,
    threads: int,
    device: torch.device,
) -> list[Steadiness]:
    """Decode a clip with x264 and with each level, all on ``threads`` threads, in two runs of three rounds; the
    quickest decoding of a run counts.

    Raises MeasureError where x264 cannot be had, UsageError for a level or quality that cannot."""
    if (reason := classical.missing(SPEED_ANCHOR)) is not None:
        raise MeasureError(reason)
    file = io.BytesIO()
    classical.encode(
        file, clip.planes, (clip.video.width, clip.video.height), clip.rate, CONDITIONS[SPEED_ANCHOR], SPEED_SETTING
    )
    how = ours.decode_options(clip, gop, threads)
    decoders: dict[str, Callable[[], tuple[float, float]]] = {
        SPEED_ANCHOR: lambda: classical.timed_decode(file.getvalue(), threads)[2:]
    }
    for level in levels:
        data = ours.encode(clip, loaded, EncodeOptions(level=level, quality=quality, gop=gop), device).data

        def decode(data: bytes = data) -> tuple[float, float]:
            found = ours.decode(data, loaded, how, device)
            return found.seconds, found.first_seconds

        decoders[ours.codec_name(level)] = decode
    for decode_once in decoders.values():
        decode_once()  # what is slow the first time is no part of this question
    runs = []
    for _ in range(2):
        # Codecs take turns, so that what else the machine does meets all of them.
        rounds = [{name: repeat(decode_once)[0] for name, decode_once in decoders.items()} for _ in range(_ROUNDS)]
        runs.append({name: min(r[name] for r in rounds) for name in decoders})
    return [
        Steadiness(name, (runs[0][name], runs[1][name]), tuple(run[name] / run[SPEED_ANCHOR] for run in runs))
        for name in decoders
        if name != SPEED_ANCHOR
    ]
