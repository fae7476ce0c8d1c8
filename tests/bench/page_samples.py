"""A small result with everything that the report's page shows. The figures are invented, and go nowhere but into tests."""

from __future__ import annotations

import struct
import zlib

from neuralcodec.bench.bd import bd
from neuralcodec.bench.compare import KindRow, VariantRow
from neuralcodec.bench.crops import Place
from neuralcodec.bench.plan import Plan, Result
from neuralcodec.bench.points import Point, curve
from neuralcodec.bench.table import Table

HOSTILE = '"><img src=x onerror="window.hurt=1"><script>window.hurt=1</script>$x_1$&amp;\'.mkv'
"""A file's name can hold this."""
CLIPS = ("meadow.mkv", HOSTILE)
ABOUT = {"program": "neuralcodec 9.9", "date": "2026-01-02T03:04:05+00:00", "commit": "0123abc", "machine": {"processor": "a processor", "cores": 2},
         "versions": {"torch": "1.2.3"}}
PAPER = Table("Complexity by module", "A Paper with a Title that is as Long as Titles of Papers Are, Proceedings of a Conference 2023, Table 1", ("system", "level", "kMAC/sample", "share %"),
              (("flagship", 1, 12.5, 60.0), ("flagship", 2, 7.5, 40.0), ("DCVC", 1, None, None)), ("counted", ), ("", "", ".2f", ".1f"),
              ("system", "kMAC/sample", "share %"))


def png(shade: int, width: int = 32, height: int = 24) -> bytes:
    """A picture of one shade of gray."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([shade]) * (3 * width)) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def point(clip: str, codec: str, step: int, factor: float, **changes) -> Point:
    """The ``step``-th point of a curve that needs ``factor`` times the bits of another."""
    ours, psnr = codec.startswith("ours"), 30.0 + 3 * step
    bits = round(factor * 40_000 * 1.7**step)
    frame_bits = [bits // 2, bits // 4, bits // 8, bits // 8]
    figures = {"psnr_y": psnr - 0.5, "psnr_u": psnr + 1, "psnr_v": psnr + 2, "psnr": psnr, "encode_s": 2.0 if ours else 0.1, "decode_s": 1.0 if ours else 0.02,
               "first_frame_s": 0.01, "kinds": "IPPP", "frame_bits": frame_bits, "frame_psnr": [psnr + 1, psnr, psnr, psnr - 1],
               "syntax_bits": {"I hyper": 0.2 * bits, "P motion": 0.8 * bits} if ours else {}, "skipped": {"P motion": 0.9} if ours else {},
               "extra": {"kmac_i": 10.0 / int(codec[-1]), "kmac_p": 20.0 / int(codec[-1])} if ours else {}, "xpsnr": psnr - 1, "decode_memory": 50_000_000}
    return Point(clip, codec, 10.0 * step + 20, 64, 48, bits, bits // 8, **(figures | changes))


FACTORS = {"ours-l1": 1.3, "ours-l2": 1.5, "ours-l3": 2.0, "x264-medium-ld32": 1.0, "x265-medium-ld32": 1.4}
"""Level 1 so needs 30 % more bits than x264 and 7.1 % fewer than x265."""


def result() -> Result:
    """Two clips, three levels, two classical codecs, crops, variants, a failure."""
    found = Result(anchor_curves={clip: {} for clip in CLIPS}, failures=["broken.mkv: no video at all"], notes=["VMAF is left out"])
    found.points = [point(clip, codec, step, factor) for clip in CLIPS for codec, factor in FACTORS.items() for step in range(4)]
    for anchor in ("x264-medium-ld32", "x265-medium-ld32", "ours-l1"):
        for codec in ("ours-l1", "ours-l2", "ours-l3"):
            if anchor != codec:
                found.bd.setdefault(anchor, {})[codec] = {c: bd(curve(found.of(c, anchor)), curve(found.of(c, codec))) for c in CLIPS}
    # One clip on which nothing can be said.
    found.bd["x264-medium-ld32"]["ours-l2"][CLIPS[1]] = bd([(1, 30.0), (2, 33.0)], [(1, 50.0), (2, 53.0)])
    found.kinds = [KindRow(CLIPS[0], "ours-l1", "x265-medium-ld32", 30.0, "I", 33.0, 1000.0, None)]
    setting = {"setting": 30.0, "bits": 1000, "bpp": 0.1, "psnr": 33.0, "skipped": {}, "entropy_ms": 1.5, "kmac_i": 1.0, "kmac_p": 2.0}
    found.saec = [VariantRow(CLIPS[0], "ours-l1 no skipping", "ours-l1", 12.0, -0.4, "", [setting])]
    for clip in CLIPS:
        found.places[clip], found.sources[clip] = Place(2, 8, 16, 32, 24), png(10)
        for shade, codec in enumerate(FACTORS, 2):
            found.crops |= {(clip, codec, p.setting): png(40 * shade) for p in found.of(clip, codec)}
    return found


def plan() -> Plan:
    return Plan(CLIPS, "flagship", ("x264", "x265"), qualities=(20, 30, 40, 50))
