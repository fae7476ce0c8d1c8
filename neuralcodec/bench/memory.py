"""Peak memory of encoding and decoding, each measured in a process of its own that does nothing else.

Pictures are read from the clip one at a time and decoded ones thrown away, as ``ncodec encode`` and ``decode`` do. What
is counted is the highest resident set of the process, interpreter and libraries included: that is what a user's machine
must have.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from neuralcodec.core.errors import MeasureError
from neuralcodec.core.types import Frame

_SECONDS = 3600


@dataclass(frozen=True)
class MemoryTask:
    """A clip (its first ``frames`` frames) through a codec at a setting; ``level`` None: a classical condition."""

    clip: str
    frames: int | None
    codec: str
    setting: float
    level: int | None = None
    model: str = ""
    gop: int = 32
    device: str = "cpu"
    threads: int = 1
    effort: int = 0


def measure(task: MemoryTask) -> tuple[int, int]:
    """Peak bytes of encoding and of decoding. Raises MeasureError."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ncodec-memory-") as folder:
        return tuple(_child(task, verb, str(Path(folder) / "stream")) for verb in ("encode", "decode"))


def _child(task: MemoryTask, verb: str, stream: str) -> int:
    package = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    }
    command = [
        sys.executable,
        "-c",
        "from neuralcodec.bench.memory import main; main()",
        verb,
        stream,
        json.dumps(asdict(task)),
    ]
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise MeasureError(f"the process that was to {verb} did not end") from error
    if result.returncode:
        raise MeasureError(
            f"the process that was to {verb} failed: {(result.stderr.strip().splitlines() or ['no word'])[-1]}"
        )
    return int(result.stdout.split()[-1])


def main() -> None:
    """The child: encode or decode, print the peak in bytes."""
    verb, stream, text = sys.argv[1:4]
    task = MemoryTask(**json.loads(text))
    (_encode if verb == "encode" else _decode)(task, stream)
    sys.stdout.write(f"{peak()}\n")


def peak() -> int:
    """The highest resident set of this process so far, in bytes."""
    # Not getrusage first: on Linux its figure survives exec, and so begins with what the parent had.
    with contextlib.suppress(OSError, TypeError):
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    import resource

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def _pictures(source: Any) -> Iterator[Frame]:
    return (item for item in source.packets() if isinstance(item, Frame))


def _encode(task: MemoryTask, stream: str) -> None:
    from neuralcodec.bench.conditions import CONDITIONS, STILLS
    from neuralcodec.bench.points import read_picture, upright
    from neuralcodec.media import open_source

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(stream, "w+b"))
        if task.codec in STILLS:
            from neuralcodec.bench import stills

            file.write(stills.encode(upright(task.clip).convert("RGB"), STILLS[task.codec], task.setting))
            return
        if (picture := read_picture(task.clip)) is not None:
            video, frames = picture.video, iter(picture.frames)
        else:
            limit = (0, task.frames) if task.frames else None
            source = stack.enter_context(contextlib.closing(open_source(task.clip, frames=limit, audio=False)))
            video, frames = source.properties, _pictures(source)
        if task.level is None:
            from neuralcodec.bench import classical

            planes = (frame.planes for frame in frames)
            classical.encode(file, planes, (video.width, video.height), video.frame_rate or Fraction(25), CONDITIONS[task.codec], task.setting)
            return
        from neuralcodec.bitstream import BUNDLE, StreamWriter
        from neuralcodec.codecs.registry import by_name
        from neuralcodec.pipeline import EncodeOptions, StreamEncoder, choose_device

        loaded, device = by_name(task.model), choose_device(task.device)
        options = EncodeOptions(level=task.level, quality=task.setting, gop=task.gop, workers=task.threads, effort=task.effort)
        if picture is not None:
            from neuralcodec.bench import ours

            file.write(ours.encode(picture, loaded, options, device).data)
            return
        encoder = StreamEncoder(loaded, video, options, device)
        writer = StreamWriter(file, encoder.header, bundle=BUNDLE)
        encoder.run(frames, writer)
        writer.finish()


def _decode(task: MemoryTask, stream: str) -> None:
    with open(stream, "rb") as file:
        if task.level is not None:
            _decode_ours(task, file)
            return
        from neuralcodec.bench.conditions import STILLS

        if task.codec in STILLS:
            from neuralcodec.bench import stills

            stills.decode(file.read(), "RGB")
            return
        from neuralcodec.bench import classical

        for _ in classical.decode(io.BytesIO(file.read()), task.threads):
            pass


def _decode_ours(task: MemoryTask, file: BinaryIO) -> None:
    from neuralcodec.bitstream import StreamReader
    from neuralcodec.codecs.registry import by_name
    from neuralcodec.pipeline import DecodeOptions, StreamDecoder, choose_device

    options = DecodeOptions(workers=task.threads)
    for _ in StreamDecoder(
        StreamReader(file, strict=True), by_name(task.model), options, choose_device(task.device)
    ).run():
        pass
