"""Decoding in every setting that this machine can take on: instruction sets, threads, memory layouts, carriers, with and without oneDNN, and a GPU.

    python tests/endtoend/sweep.py                                  the conformance streams with exact pictures, models with random weights
    python tests/endtoend/sweep.py clip.nvc ... --verify clip.md5   these streams; they must have the md5 of the file
    python tests/endtoend/sweep.py --pairs --long                   made-up moving pictures, encoded and decoded
    python tests/endtoend/sweep.py --pairs clip.mp4 --model NAME
    python tests/endtoend/sweep.py --clip clip.mp4 --frames 96 --levels 1 2 3 --model NAME

Each setting is a process of its own, and they run in turn. All must give the same latents, and the same pictures where the stream's are exact.
--verify takes what ``ncodec decode --md5`` or ``--md5-frames`` wrote, or a conformance.json, in which streams are found by their files' names.
--pairs encodes a clip in each setting and decodes what comes out in each other one: it must equal the encoder's reconstruction. --long does so
for many frames of a single group of pictures, between the first setting, the last and those of the GPU, and reports the md5 of the last frame.
--clip encodes a clip once at each level, as a single group of pictures, and decodes that in each setting.

Carriers, float32 or bfloat16, are a setting to models with layers that round their sums; others are decoded with float32 alone.

One JSON object a line goes to standard output: for each stream (or encoder) and setting. The exit code is 1 when something differs, 2 when something
cannot be had.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from exactness import MADE_UP
from sweep_compare import Job, SweepError, Trial, compared, matters, paired, published
from sweep_work import CARRIERS, EVERYTHING, INSTRUCTION_SETS, LAYOUTS, VARIABLES, Record, Setting

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "bitstream_spec" / "conformance" / "exact"
ROUNDING = ROOT / "bitstream_spec" / "conformance" / "bfloat16"
FOUR_PARTS = ROOT / "bitstream_spec" / "conformance" / "four_parts"
RANDOM = {False: "random weights", True: "random weights, sums rounded"}
PAIRS_FRAMES, LONG_FRAMES = 4, 300
SPOKEN_OF = 8
"""So many streams at most are named one by one as they are decoded."""


# -- settings --------------------------------------------------------------------------------------------------------------


def lacking() -> dict[str, str]:
    """Instruction sets that this machine cannot be held to, with the reason."""
    named = [name for name in INSTRUCTION_SETS if name != EVERYTHING]
    if platform.machine() not in ("x86_64", "AMD64"):
        return dict.fromkeys(named, "an instruction set of other processors")
    import torch.cpu

    found = {"SSE41": True, "AVX2": torch.cpu._is_avx2_supported(), "AVX512_CORE": torch.cpu._is_avx512_supported(),
             "AVX512_CORE_BF16": torch.cpu._is_avx512_bf16_supported()}
    return {name: "the processor lacks it" for name in named if not found[name]}


def all_settings(isas: Iterable[str], device: str) -> list[Setting]:
    """Every combination on the processor, then those on ``device`` where that is another."""
    settings = [Setting(*s, carriers=c) for *s, c in product(isas, (1, 2), LAYOUTS, (True, False), CARRIERS)]
    return settings + [Setting(layout=layout, device=device, carriers=c) for layout in LAYOUTS for c in CARRIERS if device != "cpu"]


def rounds(model: str | None, stream: Path | None = None) -> bool:
    """Whether a model, by name or file, or else a stream's, has layers that round their sums. Raises NcodecError."""
    from neuralcodec.bitstream import StreamReader
    from neuralcodec.codecs.exact import picture_convs
    from neuralcodec.codecs.registry import by_identity, by_name

    if stream is None:
        loaded = by_name(model)
    else:
        with stream.open("rb") as file:
            header = StreamReader(file, strict=True).header
        loaded = by_identity(header.model_id, header.model_name, Path(model) if model and Path(model).is_file() else None)
    return any(conv.rounds for conv in picture_convs(loaded.model).values())


# -- running ---------------------------------------------------------------------------------------------------------------


def run(setting: Setting, jobs: dict[str, Job], folder: Path) -> dict[str, Record]:
    """Do jobs in a process of that setting. Raises SweepError when it fails or its kernels are others than the setting's."""
    if not jobs:
        return {}
    jobs = {name: {key: value for key, value in job.items() if key != "rounds" or job["kind"] == "random"} for name, job in jobs.items()}
    files = [folder / f"{name}.json" for name in ("setting", "jobs", "result")]
    for file, content in zip(files, (asdict(setting), jobs), strict=False):
        file.write_text(json.dumps(content))
    clean = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "codecs"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(Path(__file__).with_name("sweep_work.py")), *map(str, files)]
    done = subprocess.run(command, env=clean | setting.environment() | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SweepError(f"{setting.name}: {(done.stderr.strip() or 'the process failed').splitlines()[-1]}")
    found = json.loads(files[2].read_text())
    wanted = INSTRUCTION_SETS[setting.isa][0].upper()
    if wanted and found["kernels"] != wanted:
        raise SweepError(f"{setting.name}: PyTorch's kernels are {found['kernels']}, not {wanted}")
    return {name: Record(**record) for name, record in found["records"].items()}


def sweep(settings: Sequence[Setting], jobs: dict[str, Job], trials: Sequence[Trial], folder: Path,
          say: Callable[[str], None] = lambda text: None) -> tuple[dict[str, dict[Setting, Record]], dict[str, dict[str, dict[Setting, Record]]]]:
    """Do ``jobs`` in every setting that matters to them, and all trials. Returns records by job and setting, and by trial, stream's digest and decoder.

    Raises SweepError."""
    found: dict[str, dict[Setting, Record]] = {name: {} for name in jobs}
    for number, setting in enumerate(settings, 1):
        own = {name: job for name, job in jobs.items() if matters(setting, bool(job["rounds"]))}
        made = {t.name: {"kind": "encode", "path": str(t.path(folder, setting))} | t.options for t in trials if setting in t.encoders}
        if own or made:
            say(f"{number}/{len(settings)} {setting.name}")
        records = run(setting, own | made, folder)
        for name in own:
            found[name][setting] = records[name]
        for trial in trials:
            if setting in trial.encoders:
                digest = hashlib.sha256(trial.path(folder, setting).read_bytes()).hexdigest()
                trial.made[setting] = records[trial.name], digest
    decoded: dict[str, dict[str, dict[Setting, Record]]] = {t.name: {} for t in trials}
    streams = {f"{t.name} {digest}": (t, encoder) for t in trials for encoder, (_, digest) in t.made.items()}  # equal streams once
    for number, setting in enumerate(settings, 1):
        own = {name: {"kind": "decode", "path": str(t.path(folder, encoder)), "model": t.options["model"], "rounds": t.rounds}
               for name, (t, encoder) in streams.items() if setting in t.decoders}
        if own:
            say(f"{number}/{len(settings)} {setting.name}: {len(own)} encoded streams")
        for name, record in run(setting, own, folder).items():
            trial, digest = name.rsplit(" ", 1)
            decoded[trial].setdefault(digest, {})[setting] = record
            if len(own) <= SPOKEN_OF:
                say(f"  {trial}: pictures {record.pictures}")
    return found, decoded


# -- the command -----------------------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Decode in every setting that this machine can take on, and compare.")
    parser.add_argument("streams", nargs="*", type=Path, help="streams (default: the conformance streams, and models with random weights)")
    parser.add_argument("--model", help="a model's name or file, for streams whose model is not installed and to encode with; to encode also "
                        "toy or toy-exact, which are made on the spot (default: toy-exact)")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="published md5s of the streams")
    parser.add_argument("--pairs", nargs="?", const=MADE_UP, metavar="CLIP", help="encode in each setting, decode in each (default: made-up pictures)")
    parser.add_argument("--clip", metavar="CLIP", help="encode once at each level, decode in each setting")
    parser.add_argument("--frames", type=int, default=PAIRS_FRAMES, help=f"of the clip, from its start (default {PAIRS_FRAMES})")
    parser.add_argument("--long", nargs="?", type=int, const=LONG_FRAMES, metavar="N", help=f"N made-up frames in one group (default {LONG_FRAMES})")
    parser.add_argument("--levels", type=int, nargs="+", default=[1], metavar="N", help="to encode at (default 1)")
    parser.add_argument("--quality", type=float, default=50.0, help="to encode at (default 50)")
    parser.add_argument("--isa", nargs="+", choices=tuple(INSTRUCTION_SETS), default=list(INSTRUCTION_SETS), help="instruction sets (default: all)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto, the default: a GPU beside the CPU where there is one")
    return parser.parse_args(arguments)


def trials_of(args: argparse.Namespace, settings: Sequence[Setting], folder: Path) -> list[Trial]:
    """What is to be encoded. Makes the toy model where it is asked for."""
    if args.pairs is None and args.long is None and args.clip is None:
        return []
    model = args.model or "toy-exact"
    if model in ("toy", "toy-exact"):
        import toy

        file = folder / f"{model}.safetensors"
        (toy.write_toy_model if model == "toy" else toy.write_exact_toy_model)(file)
        model = str(file)
    rounding = rounds(model)
    able = [s for s in settings if matters(s, rounding)]
    first = next((s for s in able if s.isa == EVERYTHING), able[0])
    ends = list(dict.fromkeys([able[0], [s for s in able if s.device == "cpu"][-1], *(s for s in able if s.device != "cpu")]))
    trials = []
    for level in args.levels:
        options = {"model": model, "level": level, "quality": args.quality, "gop": 0}
        for name, encoders, decoders, clip, frames in (("clip", [first], able, args.clip, args.frames), ("pairs", able, able, args.pairs, args.frames),
                                                       ("long", ends, ends, args.long and MADE_UP, args.long)):
            if clip:
                name = name if args.levels == [1] else f"{name}, level {level}"
                trials.append(Trial(name, encoders, decoders, options | {"clip": clip, "frames": frames}, rounding))
    return trials


def results(args: argparse.Namespace, settings: Sequence[Setting], folder: Path, say: Callable[[str], None]) -> Iterator[dict]:
    """All that a command line asks for, in these settings. Raises SweepError and NcodecError."""
    streams, verify, model = args.streams, args.verify, args.model
    default = not streams and args.pairs is None and args.long is None and args.clip is None
    if missing := [str(s) for s in streams if not s.is_file()]:
        raise SweepError(f"{missing[0]}: no such file")
    meant = published(verify, streams) if verify else {}
    jobs: dict[str, Job] = {str(s): {"kind": "decode", "path": str(s), "model": model, "rounds": rounds(model, s)} for s in streams}
    for set_ in (CONFORMANCE, ROUNDING, FOUR_PARTS) if default else ():
        own = sorted(set_.glob("*.nvc"))
        meant |= published(set_ / "conformance.json", own)
        model = str(next(set_.glob("*.safetensors")))
        jobs |= {str(s): {"kind": "decode", "path": str(s), "model": model, "rounds": rounds(model)} for s in own}
    if default:
        jobs |= {name: {"kind": "random", "rounds": whether} for whether, name in RANDOM.items()}
    trials = trials_of(args, settings, folder)
    found, decoded = sweep(settings, jobs, trials, folder, say)
    for name, records in found.items():
        yield from compared(name, records, meant.get(name))
    for trial in trials:
        yield from paired(trial, decoded[trial.name])


def main() -> int:
    sys.path.insert(0, str(ROOT))  # a checkout works without being installed
    from neuralcodec.core.errors import NcodecError
    from neuralcodec.pipeline.device import choose_device

    args, fine = parse(sys.argv[1:]), True
    missing = lacking()
    for name in args.isa:
        if name in missing:
            sys.stdout.write(json.dumps({"skipped": name, "reason": missing[name]}) + "\n")
    try:
        settings = all_settings([name for name in args.isa if name not in missing], choose_device(args.device).type)
        if not settings:
            raise SweepError("no setting is left")
        with tempfile.TemporaryDirectory() as folder:
            for line in results(args, settings, Path(folder), lambda text: sys.stderr.write(text + "\n")):
                sys.stdout.write(json.dumps(line) + "\n")
                fine = fine and line["ok"]
    except (SweepError, NcodecError) as error:
        sys.stderr.write(f"sweep: {error}\n")
        return 2
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
