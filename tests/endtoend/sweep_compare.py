"""What sweep.py makes of what its processes found: settings held against each other, against an encoder, against published md5s."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep_work import CARRIERS, Record, Setting

Job = dict[str, object]
"""Arguments of Worker.do."""


class SweepError(Exception):
    """Something cannot be had, or a process failed."""


@dataclass
class Trial:
    """A clip that is encoded in each setting of ``encoders``, and decoded in each of ``decoders``. ``options``: those of Worker.encode but its path.
    Of settings that differ in their carriers alone the first one will do where the model has no layer that rounds its sums (``rounds``)."""

    name: str
    encoders: Sequence[Setting]
    decoders: Sequence[Setting]
    options: Job
    rounds: bool = False
    made: dict[Setting, tuple[Record, str]] = field(default_factory=dict)
    """What each encoder reconstructed, and the digest of its stream."""

    def __post_init__(self) -> None:
        self.encoders, self.decoders = ([s for s in some if matters(s, self.rounds)] for some in (self.encoders, self.decoders))

    def path(self, folder: Path, encoder: Setting) -> Path:
        return folder / f"{self.name}-{self.encoders.index(encoder)}.nvc"


def matters(setting: Setting, rounds: bool) -> bool:
    """Whether a setting is another one to a model with or without layers that round their sums."""
    return rounds or setting.carriers == CARRIERS[0]


@dataclass(frozen=True)
class Meant:
    """Published md5s of a stream: of the pictures over all frames, of those of single frames, of the latents; None where not published."""

    pictures: str | None = None
    frames: tuple[str, ...] | None = None
    latents: str | None = None

    def met(self, record: Record) -> bool:
        return ((self.pictures or record.pictures) == record.pictures and (self.latents or record.latents) == record.latents
                and (self.frames or tuple(record.frames)) == tuple(record.frames))


def alike(one: Record, other: Record) -> bool:
    """Whether two settings agree as far as the stream promises."""
    return one.latents == other.latents and len(one.frames) == len(other.frames) and (not one.exact or one.pictures == other.pictures)


def first_difference(one: Record, other: Record) -> int | None:
    """The first frame whose pictures differ."""
    pairs = zip(one.frames, other.frames, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), None)


def compared(name: str, records: dict[Setting, Record], meant: Meant | None = None) -> Iterator[dict]:
    """A line for each setting: against the first one, and against the md5s that are meant."""
    first = next(iter(records.values()))
    for setting, record in records.items():
        line = {"stream": name, "setting": setting.name, "frames": len(record.frames), "exact": record.exact, "pictures": record.pictures,
                "latents": record.latents, "ok": alike(first, record)}
        if meant is not None:
            line |= {"as_published": meant.met(record)}
            line["ok"] = line["ok"] and line["as_published"]
        if (frame := first_difference(first, record)) is not None:
            line["first_different_frame"] = frame
        yield line


def paired(trial: Trial, decoded: dict[str, dict[Setting, Record]]) -> Iterator[dict]:
    """A line for each encoder: what its stream decodes to in all settings against its own reconstruction."""
    for encoder, (record, digest) in trial.made.items():
        differ = [{"decoder": setting.name, "first_different_frame": first_difference(record, other)}
                  for setting, other in decoded[digest].items() if not alike(record, other)]
        yield {"trial": trial.name, "encoder": encoder.name, "stream": digest[:16], "frames": len(record.frames), "exact": record.exact,
               "pictures": record.pictures, "last_frame": record.frames[-1], "decoders": len(decoded[digest]), "ok": not differ, "differ": differ}


def published(path: Path, streams: Sequence[Path]) -> dict[str, Meant]:
    """Published md5s by the streams' names. Raises SweepError, and UsageError for a file of md5s that is none."""
    if path.suffix == ".json":
        try:
            entries = {e["file"]: e for e in json.loads(path.read_text())["streams"]}
            found = {n: Meant(e.get("pictures"), tuple(f["pictures"] for f in e["frames"]) if "pictures" in e else None, e["md5"]) for n, e in entries.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SweepError(f"{path}: no list of streams with md5s") from error
        if missing := [s.name for s in streams if s.name not in found]:
            raise SweepError(f"{path}: has no md5 of {', '.join(missing)}")
        return {str(s): found[s.name] for s in streams}
    from neuralcodec.cli.digests import read_md5_file

    if len(streams) != 1:
        raise SweepError("--verify with a file of md5s takes one stream")
    expected = read_md5_file(path)
    return {str(streams[0]): Meant(expected.whole, expected.frames)}
