"""Exactness over machines, shown on one: encode with the oldest kernels on one thread, decode with the newest on two, and the reverse.

    python tests/endtoend/exactness.py                                        a toy model, made-up moving pictures
    python tests/endtoend/exactness.py --model toy-exact                      the same with exact pictures
    python tests/endtoend/exactness.py --model flagship --frames 96 --quality 50 clip.mp4 ...

Four processes: an encoder and a decoder with
``ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41`` and one thread ("old"), and both with everything that this processor has and
two threads ("new"). Each decoder takes the other machine's streams. Latents, masks and applied widths must have the encoder's md5.
So must the pictures of a model that is exact; those of one in floating point must lie within 0.01 dB of the encoder's reconstruction by
their PSNR against the source. One JSON object for each clip, level and direction goes to standard output; the exit code is 1 when
something differs. sweep.py beside this file goes through many more settings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OLDEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
THREADS = {"old": 1, "new": 2}
MADE_UP = "made-up"
TOLERANCE = 0.01
"""Decibels by which the mean PSNR of a clip may differ where the pictures are not exact."""


# -- one process's work ----------------------------------------------------------------------------------------------------


class _Record:
    """What an encoder or a decoder has seen of one stream: digests of latents and masks, PSNR, md5 of pictures."""

    def __init__(self) -> None:
        self._latents, self._pictures = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
        self.psnr: list[float] = []
        self.masks: dict[str, list[float]] = {}

    def add(self, parsed, planes, source) -> None:
        for part in parsed.digest_parts():
            self._latents.update(part)
        for plane in planes:
            self._pictures.update(plane.tobytes())
        for name, mask in parsed.masks.items():
            self.masks.setdefault(name, []).append(float(mask.mean()))
        self.psnr.append(psnr(planes, source.planes))

    def result(self, loaded) -> dict:
        import torch

        from neuralcodec.nn.selection import units

        widths = bytes(unit.option for unit in units(loaded.model).values())
        return {"kernels": torch.backends.cpu.get_cpu_capability(), "exact": loaded.exact, "latents": self._latents.hexdigest(), "widths": hashlib.md5(widths).hexdigest(),
                "pictures": self._pictures.hexdigest(), "frames": len(self.psnr), "psnr": self.psnr,
                "coded": {name: round(float(np.mean(shares)), 3) for name, shares in self.masks.items()}}


def psnr(planes, source) -> float:
    """(6 Y + U + V) / 8 in dB of one picture; 100 for equal planes."""
    values = [min(100.0, 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2)))) for a, b in zip(planes, source)]
    return float((6 * values[0] + values[1] + values[2]) / 8)


def pictures_of(clip: str, frames: int) -> tuple:
    """(VideoProperties, iterator of frames) of a video file, or of MADE_UP moving pictures."""
    from fractions import Fraction

    import toy

    from neuralcodec.core.types import Frame, VideoProperties
    from neuralcodec.media import open_source

    if clip == MADE_UP:
        return VideoProperties(96, 64, Fraction(1, 25), Fraction(25)), toy.moving_texture(frames)
    source = open_source(clip, frames=(0, frames), audio=False)
    return source.properties, (item for item in source.packets() if isinstance(item, Frame))


def _encode(path: Path, clip: str, level: int, args: argparse.Namespace) -> dict:
    import torch

    from neuralcodec.bitstream import StreamWriter
    from neuralcodec.codecs.registry import by_name
    from neuralcodec.nn.layout import tensors_to_planes
    from neuralcodec.pipeline import EncodeOptions, StreamEncoder

    loaded, record, waiting = by_name(args.model), _Record(), deque()
    video, frames = pictures_of(clip, args.frames)

    def remembered() -> Iterator:
        for frame in frames:
            waiting.append(frame)
            yield frame

    options = EncodeOptions(level, args.quality, args.gop, workers=1, threads=THREADS[args.machine])
    encoder = StreamEncoder(loaded, video, options, torch.device("cpu"))
    with path.open("wb") as file:
        writer = StreamWriter(file, encoder.header)

        def on_frame(packet, coded, size) -> None:
            planes = tensors_to_planes(coded.planes.y, coded.planes.uv, video.height, video.width)
            record.add(coded.parsed, planes, waiting.popleft())

        encoder.run(remembered(), writer, on_frame)
        writer.finish()
    return record.result(loaded)


def _decode(path: Path, clip: str, level: int, args: argparse.Namespace) -> dict:
    import torch

    from neuralcodec.bitstream import StreamReader
    from neuralcodec.codecs.registry import by_name
    from neuralcodec.pipeline import DecodeOptions, StreamDecoder

    loaded, record = by_name(args.model), _Record()
    _, frames = pictures_of(clip, args.frames)
    with path.open("rb") as file:
        decoder = StreamDecoder(StreamReader(file, strict=True), loaded, DecodeOptions(workers=1, threads=THREADS[args.machine]), torch.device("cpu"))
        for item in decoder.run():
            record.add(item.parsed, item.frame.planes, next(frames))
    return record.result(loaded)


def _work(args: argparse.Namespace) -> None:
    """Encode, or decode what the other machine encoded: all clips at all levels. Results go into JSON files."""
    origin = args.machine if args.work == "encode" else {"old": "new", "new": "old"}[args.machine]
    for number, clip in enumerate(args.clips):
        for level in args.levels:
            name = f"{number}-{level}-{origin}"
            result = (_encode if args.work == "encode" else _decode)(args.folder / f"{name}.nvc", clip, level, args)
            (args.folder / f"{name}.{args.work}.json").write_text(json.dumps(result))


# -- all four processes ----------------------------------------------------------------------------------------------------


def _start(work: str, machine: str, folder: Path, args: argparse.Namespace) -> subprocess.Popen:
    settings = {"OMP_NUM_THREADS": str(THREADS[machine])} | (OLDEST if machine == "old" else {})
    clean = {k: v for k, v in os.environ.items() if k not in OLDEST}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, __file__, "--work", work, "--machine", machine, "--folder", folder, "--model", args.model,
               "--frames", args.frames, "--quality", args.quality, "--gop", args.gop, "--levels", *args.levels, "--", *args.clips]
    return subprocess.Popen([str(part) for part in command], env=clean | settings | {"PYTHONPATH": path})


def compare(args: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Runs the four processes; yields what each clip, level and direction gave. Raises RuntimeError when a process fails."""
    if args.model in ("toy", "toy-exact"):
        import toy

        write = toy.write_toy_model if args.model == "toy" else toy.write_exact_toy_model
        args.model = str(folder / f"{args.model}.safetensors")
        write(Path(args.model))
    for work in ("encode", "decode"):
        processes = [_start(work, machine, folder, args) for machine in THREADS]
        codes = [process.wait() for process in processes]  # of all, before one of them is looked at
        if any(codes):
            raise RuntimeError(f"a process that was to {work} failed")
    for number, clip in enumerate(args.clips):
        for level in args.levels:
            for origin in THREADS:
                name = f"{number}-{level}-{origin}"
                sent, got = (json.loads((folder / f"{name}.{work}.json").read_text()) for work in ("encode", "decode"))
                difference = abs(float(np.mean(sent["psnr"])) - float(np.mean(got["psnr"])))
                result = {
                    "clip": clip, "level": level, "exact": sent["exact"], "encoder": f"{origin} ({sent['kernels']})", "decoder_kernels": got["kernels"],
                    "frames": got["frames"], "bytes": (folder / f"{name}.nvc").stat().st_size,
                    "latents_and_masks": sent["latents"] == got["latents"], "widths": sent["widths"] == got["widths"],
                    "pictures_bit_exact": sent["pictures"] == got["pictures"], "psnr": round(float(np.mean(got["psnr"])), 3),
                    "psnr_difference": round(difference, 6),
                    "psnr_difference_worst_frame": round(float(np.abs(np.subtract(sent["psnr"], got["psnr"])).max()), 6),
                    "coded_share": got["coded"], "latents_md5": got["latents"], "widths_md5": got["widths"],
                }
                alike = result["pictures_bit_exact"] or (not sent["exact"] and difference <= TOLERANCE)
                yield result | {"ok": result["latents_and_masks"] and result["widths"] and alike and sent["frames"] == got["frames"]}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Exactness over instruction sets and thread counts.")
    parser.add_argument("clips", nargs="*", default=[MADE_UP], help="video files (default: made-up moving pictures)")
    parser.add_argument("--model", default="toy", help="a model's name or file; toy or toy-exact: one made on the spot (default toy)")
    parser.add_argument("--frames", type=int, default=96, help="of each clip, from its start (default 96)")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--gop", type=int, default=32)
    for hidden in ("--work", "--machine"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> int:
    sys.path.insert(0, str(ROOT))  # a checkout works without being installed
    args = parse(sys.argv[1:])
    if args.work:
        _work(args)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = list(compare(args, Path(folder)))
    for result in results:
        sys.stdout.write(json.dumps(result) + "\n")
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
