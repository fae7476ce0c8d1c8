"""Hundreds of damaged variants of a stream through the decoder, in one process: what comes out, how long it takes, how much memory.

    python tests/endtoend/damaged.py [FILE.nvc --model NAME] [--count 500] [--seed 1]

Without a file, of a small stream that a toy model makes on the spot. Prints one JSON object; its ``failures`` name every variant that
broke a promise, and the exit code is 1 if there are any:

- nothing but typed errors, and no variant takes longer than a few seconds;
- with CRCs left wrong, a frame comes out as it was or not at all, groups that were not hit come out whole, a missing frame is told;
- with CRCs made right, groups that were not hit still come out whole, unless the header was hit: it then says what it says;
- ``strict`` refuses what was told as damage.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20
"""A single variant takes at most this long, even where other programs keep the processors busy."""
STRICT_EVERY = 7
CLEAN_RUNS = 5
"""Decodings of the undamaged stream by which this machine's speed is known, after a first one."""
SIZES = [(65535, 65535), (8192, 8192), (65535, 1024), (1, 65535), (16384, 4096), (4096, 4096), (1, 1), (31, 33)]
MOVING_KINDS = ("drop", "double", "swap")
"""Whole packets with right CRCs in wrong places."""


def toy_stream(loaded) -> bytes:
    """Four groups of two frames, with packets of sound between them."""
    import rounds
    import toy

    from neuralcodec.core.types import SidePacket
    from neuralcodec.pipeline import EncodeOptions
    from tests.bitstream.samples import AUDIO

    items = []
    for i, frame in enumerate(toy.moving_texture(8, 32, 32)):
        items += [frame, SidePacket(0, bytes(range(i, i + 90)), 1024 * i, 1024 * i, 1024)]
    video = rounds.video_of(items[::2])
    return rounds.encode(loaded, items, video, EncodeOptions(gop=2, workers=1), side_streams=(AUDIO,)).data


class Trial:
    """Decodes variants of ``data`` and collects what breaks a promise."""

    def __init__(self, data: bytes, loaded) -> None:
        import rounds

        from tests.bitstream.damage import split

        self.data, self.loaded = data, loaded
        self.clean = rounds.decode(data, loaded)
        start = time.process_time()
        for _ in range(CLEAN_RUNS):
            rounds.decode(data, loaded)
        self.clean_seconds = (time.process_time() - start) / CLEAN_RUNS
        self.md5s = self.clean.md5s()
        self.chunks = split(data)
        self.groups = self._groups()
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest = 0.0
        self.exact = self.lost = 0

    def _groups(self) -> list[tuple[int, set[int]]]:
        """For each chunk its group, -1 before the first, and the numbers of the frames in each group."""
        group, frames, of_chunk, members = -1, 0, [], {}
        for i, chunk in enumerate(self.chunks):
            type_ = chunk[0] >> 4 if i else 0
            group += type_ == 1
            if type_ in (2, 3):
                members.setdefault(group, set()).add(frames)
                frames += 1
            of_chunk.append(group if type_ < 5 else len(self.chunks))
        self.members = members
        return of_chunk

    def variant(self, number: int, name: str, data: bytes, repaired: bool, touched: frozenset[int] | None, strict: bool) -> None:
        """``touched``: chunks that were hit, None for those of which nothing is known."""
        import rounds

        from neuralcodec.core.errors import NcodecError

        label = f"{number} {name} {'repaired' if repaired else ''}"
        start = time.monotonic()
        try:
            got, error = rounds.decode(data, self.loaded), None
        except NcodecError as e:
            got, error = None, e
        except Exception as e:  # noqa: BLE001 - the very thing that is looked for
            self.failures.append(f"{label}: {type(e).__name__}: {e}")
            return
        seconds = time.monotonic() - start
        self.slowest = max(self.slowest, seconds)
        if seconds > SECONDS:
            self.failures.append(f"{label}: took {seconds:.1f} s")
        self.outcomes[type(error).__name__ if error else "damaged" if got.damages else "whole"] += 1
        if error is None and touched is not None:
            self._compare(label, name, got, repaired, touched)
        if strict and data != self.data and (error or got.damages):
            try:
                rounds.decode(data, self.loaded, strict=True)
                self.failures.append(f"{label}: strict said nothing")
            except NcodecError:
                self.outcomes["refused by strict"] += 1

    def _compare(self, label: str, kind: str, got, repaired: bool, touched: frozenset[int]) -> None:
        md5s = got.md5s()
        near = (-1, 0, 1) if kind in MOVING_KINDS else (0,)  # what stands beside a hole or an intruder
        hit = {self.groups[t + i] for t in touched for i in near if 0 <= t + i < len(self.groups)}
        if repaired and 0 in touched:
            return
        for group, members in self.members.items():
            if group not in hit and any(md5s.get(n) != self.md5s[n] for n in members):
                self.failures.append(f"{label}: group {group} was not hit, and yet it is not whole")
        if not repaired and kind not in MOVING_KINDS:
            self.exact += len(md5s)
            self.lost += len(self.md5s) - len(md5s)
            if any(self.md5s.get(n) != md5 for n, md5 in md5s.items()):
                self.failures.append(f"{label}: a frame that was never encoded")
            if len(md5s) < len(self.md5s) and not got.damages:
                self.failures.append(f"{label}: frames are missing, and nobody says so")

    def absurd_headers(self) -> None:
        """Headers with right CRCs that ask for other picture sizes than the stream was made with."""
        from neuralcodec.bitstream import StreamReader
        from neuralcodec.bitstream.header import write_header

        reader = StreamReader(io.BytesIO(self.data))
        for width, height in SIZES:
            video = replace(reader.header.video, width=width, height=height)
            data = write_header(replace(reader.header, video=video)) + self.data[reader.header_size :]
            before = peak()
            self.variant(0, f"size {width}x{height}", data, True, None, False)
            self.outcomes[f"{width}x{height}: {'more memory' if peak() - before > 1 << 28 else 'little memory'}"] += 1


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # a checkout works without being installed
    parser = argparse.ArgumentParser(description="Damaged variants of a stream through the decoder.")
    parser.add_argument("file", nargs="?", type=Path, help="an undamaged .nvc file (default: a toy model's)")
    parser.add_argument("--model", default="flagship", help="a model's name or file")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from neuralcodec.codecs.registry import by_name
    from tests.bitstream.damage import damaged_variants

    loaded = by_name(args.model)
    start = time.monotonic()
    trial = Trial(args.file.read_bytes() if args.file else toy_stream(loaded), loaded)
    base, repaired, begun = peak(), 0, time.process_time()
    for number, v in enumerate(damaged_variants(trial.data, args.count, args.seed)):
        trial.variant(number, v.kind, v.data, v.repaired, v.chunks, number % STRICT_EVERY == 0)
        repaired += v.repaired
    each = (time.process_time() - begun) / max(args.count, 1)
    trial.absurd_headers()
    result = {"variants": args.count, "repaired": repaired, "seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(time.process_time(), 1),
              "clean_cpu_seconds": round(trial.clean_seconds, 4), "variant_cpu_seconds": round(each, 4), "slowest": round(trial.slowest, 2),
              "memory_before": base, "memory": peak(), "outcomes": dict(trial.outcomes), "frames_exact": trial.exact, "frames_lost": trial.lost,
              "failures": trial.failures}
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if trial.failures else 0


if __name__ == "__main__":
    sys.exit(main())
