"""Comparisons beyond BD-rate: frames of one kind beside another codec's, ways to skip, learned widths against uniform ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

from neuralcodec.bench.bd import Curve, bd, rate_at
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Point, curve
from neuralcodec.codecs.complexity import INTER, INTRA, complexity, total
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.selection import WIDTHS, units

SKIPPING = (
    Variant("derived only", (MaskMode.DERIVED,)),
    Variant("derived with exceptions", (MaskMode.DERIVED, MaskMode.DERIVED_WITH_EXCEPTIONS)),
    Variant("threshold only", (MaskMode.THRESHOLD,)),
    Variant("no skipping", ()),
)
"""Beside the encoder's free choice: SaEC's mask as the networks give it, with coded exceptions, a threshold on the predicted scale whose best value is
found for each latent of each frame, and everything coded."""


@dataclass(frozen=True)
class KindRow:
    """Frames of one kind at one of our settings: mean bits a frame and PSNR (dB) of ours, and the bits that another codec's frames of that kind
    take at the same PSNR (None outside its curve; not extrapolated)."""

    clip: str
    codec: str
    anchor: str
    setting: float
    kind: str
    psnr: float
    bits: float
    anchor_bits: float | None

    @property
    def ratio(self) -> float | None:
        """Our bits for each of the anchor's."""
        return self.bits / self.anchor_bits if self.anchor_bits else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


def beside(points: Sequence[Point], anchors: Sequence[Point]) -> list[KindRow]:
    """I and P frames of points of one clip and codec beside another codec's on the same clip, at equal PSNR of those frames."""
    rows = []
    for kind in "IP":
        their = [p.of_kind(kind) for p in anchors]
        kind_curve: Curve = [(bits, psnr) for bits, psnr in filter(None, their)]
        for point in points:
            mine = point.of_kind(kind)
            if mine and kind_curve:
                bits, psnr = mine
                rows.append(KindRow(point.clip, point.codec, anchors[0].codec, point.setting, kind, psnr, bits, rate_at(kind_curve, psnr)))
    return rows


@dataclass(frozen=True)
class VariantRow:
    """A variant of our codec against the codec as it is, on one clip: BD-rate in percent and BD-PSNR in dB (None where refused, see
    ``reason``), and by setting: bits, PSNR, skipped shares by latent, entropy decoding in ms a frame, decoder kMAC for a luma sample."""

    clip: str
    codec: str
    against: str
    bd_rate: float | None
    bd_psnr: float | None
    reason: str
    settings: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def variant_row(points: Sequence[Point], plain: Sequence[Point]) -> VariantRow:
    """A variant's points beside those of the codec as it is (which may be the same points)."""
    result = bd(curve(plain), curve(points))
    settings = [{"setting": p.setting, "bits": p.bits, "bpp": p.bpp, "psnr": p.psnr, "skipped": p.skipped, **p.extra} for p in points]
    return VariantRow(points[0].clip, points[0].codec, plain[0].codec, result.rate, result.psnr, result.reason, settings)


def uniform_widths(loaded: LoadedModel, level: int) -> list[Variant]:
    """Tables to hold against the learned one of a level: the level's own option everywhere, and the regular mixture of equal work."""
    learned, option = loaded.widths[level - 1], min(level, len(WIDTHS)) - 1
    uniform = Variant(f"uniform {100 * WIDTHS[option]:.0f} %", widths=bytes([option]) * len(learned))
    return [uniform, Variant("regular mixture", widths=equal_work(loaded.model, learned))]


def equal_work(model: Flagship, learned: bytes) -> bytes:
    """The regular mixture of two width options whose decoding work is closest to a learned table's.

    Regular: k of n units have the wider option, spread evenly. Chosen for I and for P frames apart, since either has units of its own."""
    intra = [name.startswith("intra.") for name in units(model)]
    table = bytearray(learned)
    for role, belongs in ((INTRA, True), (INTER, False)):
        places = [i for i, is_intra in enumerate(intra) if is_intra == belongs]
        aim = total(complexity(model, learned), role)
        best: tuple[Fraction, bytes] | None = None
        for wide, narrow in combinations(range(len(WIDTHS)), 2):
            for k in range(len(places) + 1):
                for j, place in enumerate(places):
                    table[place] = wide if (j + 1) * k // len(places) > j * k // len(places) else narrow
                distance = abs(total(complexity(model, bytes(table)), role) - aim)
                if best is None or distance < best[0]:
                    best = distance, bytes(table)
        table = bytearray(best[1])
    return bytes(table)
