"""What sweep.py has a process do in one setting: decode streams, encode clips, run a model with random weights; md5s of all of it.

    python tests/endtoend/sweep_work.py SETTING.json JOBS.json RESULT.json        in the environment that the setting asks for
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exactness

EVERYTHING = "all"
"""The instruction sets of the processor, whatever they are."""
INSTRUCTION_SETS = {
    "SSE41": ("default", "SSE4_2"),
    "AVX2": ("avx2", "AVX2"),
    "AVX512_CORE": ("avx512", "AVX512"),
    "AVX512_CORE_BF16": ("avx512", "AVX512"),
    EVERYTHING: ("", ""),
}
"""oneDNN's names, with PyTorch's and MKL's for the same."""
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
LAYOUTS = ("channels_last", "contiguous")
CARRIERS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Setting:
    """How networks are run. ``layout`` "contiguous" has the weights, and whatever enters any layer, in that memory layout; otherwise they are as
    the codec wants them, which is channels last. ``carriers`` are those of layers that round their sums to bfloat16; where the processor has no
    instructions for it, PyTorch computes in bfloat16 all the same, slowly."""

    isa: str = EVERYTHING
    threads: int = 1
    layout: str = LAYOUTS[0]
    onednn: bool = True
    device: str = "cpu"
    carriers: str = CARRIERS[0]

    @property
    def name(self) -> str:
        parts = [self.isa, f"{self.threads} thread{'s' if self.threads > 1 else ''}", "oneDNN" if self.onednn else "no oneDNN"]
        return ", ".join([self.device, *(parts if self.device == "cpu" else ()), self.layout, self.carriers])

    def environment(self) -> dict[str, str]:
        """What a process needs; none of VARIABLES may be there besides."""
        wanted = dict(zip(VARIABLES, (self.isa, *INSTRUCTION_SETS[self.isa]), strict=True)) if self.isa != EVERYTHING else {}
        # Threads that wait must not hold up the others.
        return wanted | {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "passive"}


@dataclass
class Record:
    """md5s of one stream: ``pictures`` and ``latents`` over all frames, ``frames`` the pictures of each. Where ``exact``, pictures must be the same
    everywhere, otherwise latents alone."""

    exact: bool
    pictures: str = ""
    latents: str = ""
    frames: list[str] = field(default_factory=list)


class _Digests:
    def __init__(self, exact: bool) -> None:
        from neuralcodec.core.digest import RunningMd5

        self.record = Record(exact)
        self._pictures, self._latents = RunningMd5(), hashlib.md5(usedforsecurity=False)

    def add(self, parsed, frame) -> None:
        from neuralcodec.core.digest import md5_of_frame

        self._pictures.update(frame)
        for part in parsed.digest_parts():
            self._latents.update(part)
        self.record.frames.append(md5_of_frame(frame))

    def finish(self) -> Record:
        self.record.pictures, self.record.latents = self._pictures.hexdigest(), self._latents.hexdigest()
        return self.record


class Worker:
    """Does jobs in one setting. A job is a dictionary: "kind" names the method, the rest are its arguments."""

    def __init__(self, setting: Setting) -> None:
        import torch

        from neuralcodec.nn.bfloat16 import use_carriers
        from neuralcodec.pipeline.device import choose_device, prepare_exact

        self.setting, self.device = setting, choose_device(setting.device)
        self._layout = torch.contiguous_format if setting.layout == "contiguous" else torch.channels_last
        if setting.layout == "contiguous":
            self.hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda _, given: tuple(map(self._laid_out, given)))
        use_carriers(setting.carriers)
        torch.set_num_threads(setting.threads)
        prepare_exact(self.device)

    def _laid_out(self, value: Any) -> Any:
        import torch

        from neuralcodec.nn.fixed import Fixed

        if isinstance(value, Fixed):
            return dataclasses.replace(value, values=self._laid_out(value.values))
        return value.contiguous(memory_format=self._layout) if isinstance(value, torch.Tensor) and value.dim() == 4 else value

    def do(self, kind: str, **arguments: Any) -> Record:
        return {"decode": self.decode, "encode": self.encode, "random": self.random}[kind](**arguments)

    def decode(self, path: str, model: str | None = None) -> Record:
        """A stream of an installed model, or of ``model`` where that is a file."""
        from neuralcodec.bitstream import StreamReader
        from neuralcodec.codecs.registry import by_identity
        from neuralcodec.core.types import SidePacket
        from neuralcodec.pipeline import DecodeOptions, StreamDecoder

        extra = Path(model) if model and Path(model).is_file() else None
        with open(path, "rb") as file:
            reader = StreamReader(file, strict=True)
            loaded = by_identity(reader.header.model_id, reader.header.model_name, extra)
            loaded.model.to(memory_format=self._layout)
            digests = _Digests(loaded.exact)
            for item in StreamDecoder(reader, loaded, DecodeOptions(workers=1, threads=self.setting.threads), self.device).run():
                if not isinstance(item, SidePacket):
                    digests.add(item.parsed, item.frame)
        return digests.finish()

    def encode(self, path: str, model: str, clip: str, frames: int, level: int, quality: float, gop: int) -> Record:
        """A clip to the file ``path``; the record is of the encoder's reconstruction."""
        from neuralcodec.bitstream import StreamWriter
        from neuralcodec.codecs.registry import by_name
        from neuralcodec.core.types import Frame
        from neuralcodec.nn.layout import tensors_to_planes
        from neuralcodec.pipeline import EncodeOptions, StreamEncoder

        loaded = by_name(model)
        loaded.model.to(memory_format=self._layout)
        digests = _Digests(loaded.exact)
        video, pictures = exactness.pictures_of(clip, frames)
        encoder = StreamEncoder(loaded, video, EncodeOptions(level, quality, gop, workers=1, threads=self.setting.threads), self.device)
        with open(path, "wb") as file:
            writer = StreamWriter(file, encoder.header)

            def on_frame(packet, coded, size) -> None:
                planes = tensors_to_planes(coded.planes.y, coded.planes.uv, video.height, video.width)
                digests.add(coded.parsed, Frame(planes, packet.pts))

            encoder.run(pictures, writer, on_frame)
            writer.finish()
        return digests.finish()

    def random(self, rounds: bool) -> Record:
        """A model of random integers up to their limits, with latents up to theirs, at three widths: no stream, pictures alone. With ``rounds`` one
        that rounds sums."""
        import random_flagship

        model = random_flagship.random_flagship(rounds=rounds).to(memory_format=self._layout)
        return Record(True, random_flagship.digest(model, self.device))


def main() -> int:
    import torch

    from neuralcodec.core.errors import NcodecError

    setting, jobs, result = (Path(name) for name in sys.argv[1:])
    setting = Setting(**json.loads(setting.read_text()))
    try:
        worker = Worker(setting)
        with nullcontext() if setting.onednn else torch.backends.mkldnn.flags(enabled=False):
            records = {name: worker.do(**job) for name, job in json.loads(jobs.read_text()).items()}
    except NcodecError as error:
        sys.stderr.write(f"{setting.name}: {error}\n")
        return error.exit_code
    found = {"kernels": torch.backends.cpu.get_cpu_capability(), "records": {name: dataclasses.asdict(r) for name, r in records.items()}}
    result.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
