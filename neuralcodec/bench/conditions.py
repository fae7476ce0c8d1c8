"""Named conditions: which classical encoder, with which literal options, at which settings.

"ld32" is the low delay of the papers: no B frames, an intra frame every 32 (for a short clip the first one alone), with the encoder's own
tuning or, "psnr", tuned for the measure. Without it stands what a user gets. "elfvc" are the commands of the ELF-VC supplement (section I).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from neuralcodec.core.errors import UsageError

_LOW_DELAY = "bframes=0:keyint=32:min-keyint=32:scenecut=0"
_CRF = (20, 24, 28, 32, 36)


@dataclass(frozen=True)
class Condition:
    """An encoder of FFmpeg with its options. ``crf`` are the settings of a curve, given to the option ``key``; ``sei`` the SEI unit types of
    the format, ``shift`` and ``mask`` find a unit's type in its first byte."""

    encoder: str
    container: str
    options: dict[str, str]
    crf: tuple[int, ...] = _CRF
    key: str = "crf"
    what: str = ""
    sei: tuple[int, ...] = field(default=(), repr=False)
    shift: int = field(default=0, repr=False)
    mask: int = field(default=31, repr=False)

    def facts(self) -> dict[str, Any]:
        """What makes two measurements comparable, for reports."""
        return {"encoder": self.encoder, "options": self.options, "setting": self.key, "settings": list(self.crf), "what": self.what}


@dataclass(frozen=True)
class StillCondition:
    """A still picture format of Pillow with its options; ``crf`` are the settings of a curve, given to the option ``key``."""

    encoder: str
    options: dict[str, Any]
    crf: tuple[int, ...]
    key: str = "quality"
    what: str = ""

    def facts(self) -> dict[str, Any]:
        """As Condition.facts."""
        return {"encoder": f"Pillow {self.encoder}", "options": self.options, "setting": self.key, "settings": list(self.crf), "what": self.what}


_SLICES = {"threads": "2", "thread_type": "slice"}
"""What the ruler's x264 had: FFmpeg's threads by PyAV's default, on two cores. Two slices cost it bits (4 % on a clip of 360x240), and more cores would
cost more, so the number stands here; x264's own default, threads by frames, costs none. x265 and SVT-AV1 do not depend on threads."""
_WHOLE = {"thread_type": "frame"}


def _x264(what: str, params: str = "", threads: dict[str, str] = _SLICES, **options: str) -> Condition:
    return Condition("libx264", "h264", options | threads | ({"x264-params": params} if params else {}), what=what, sei=(6,))


def _x265(what: str, params: str = "", **options: str) -> Condition:
    params = f"{params}:log-level=error" if params else "log-level=error"
    return Condition("libx265", "hevc", options | {"x265-params": params}, what=what, sei=(39, 40), shift=1, mask=63)


def _svtav1(what: str, settings: tuple[int, ...], key: str = "crf", **options: str) -> Condition:
    return Condition("libsvtav1", "ivf", {k.replace("_", "-"): v for k, v in options.items()}, settings, key, what)


_QP = (25, 33, 41, 49, 57)
CONDITIONS: dict[str, Condition] = {
    "x264-medium-ld32": _x264("low delay", _LOW_DELAY, preset="medium"),
    "x265-medium-ld32": _x265("low delay", _LOW_DELAY, preset="medium"),
    "x264-medium-ld32-psnr": _x264("low delay, tuned for PSNR", _LOW_DELAY, preset="medium", tune="psnr"),
    "x264-medium-ld32-whole": _x264("low delay, a picture in one slice", _LOW_DELAY, _WHOLE, preset="medium"),
    "x265-medium-ld32-psnr": _x265("low delay, tuned for PSNR", _LOW_DELAY, preset="medium", tune="psnr"),
    "x264-medium": _x264("as a user gets it", preset="medium"),
    "x264-medium-whole": _x264("as a user gets it, a picture in one slice", "", _WHOLE, preset="medium"),
    "x265-medium": _x265("as a user gets it", preset="medium"),
    "x265-veryslow": _x265("as a user gets it, slowest preset but one", preset="veryslow"),
    "svtav1-p6": _svtav1("as a user gets it", _QP, preset="6"),
    "x264-elfvc": _x264("ELF-VC supplement, section I", "bframes=0", _WHOLE, preset="medium"),
    "x265-elfvc": _x265("ELF-VC supplement, section I", "bframes=0", preset="medium"),
    "svtav1-elfvc": _svtav1("ELF-VC supplement, section I (SVT-AV1 0.8.5); SVT-AV1 4 refuses hierarchical-levels=0", _QP, "qp",
                            svtav1_params="rc=0:hierarchical-levels=0:lookahead=0"),
    "svtav1-elfvc-ld": _svtav1("what SVT-AV1 4 has in place of ELF-VC's command: low delay structure, fewest layers, constant quantiser", _QP, "qp",
                               svtav1_params="rc=0:pred-struct=1:hierarchical-levels=2:lookahead=0"),
    "x265-intra": replace(_x265("intra frames only", "keyint=1:bframes=0", preset="medium"), crf=(20, 26, 32, 38, 44)),
}
"""Conditions by name."""

STILLS: dict[str, StillCondition] = {
    "jpeg": StillCondition("JPEG", {"optimize": True, "subsampling": "4:2:0"}, (10, 30, 50, 75, 92), what="Huffman tables optimised"),
    "webp": StillCondition("WEBP", {"method": 4}, (5, 25, 50, 75, 92), what="as a user gets it"),
    "avif": StillCondition("AVIF", {"speed": 4, "subsampling": "4:2:0"}, (20, 40, 60, 75, 90), what="speed 4"),
}
"""Formats of still pictures, by Pillow: from RGB to RGB."""

ALIASES = {"x264": "x264-medium-ld32", "x265": "x265-medium-ld32", "svtav1": "svtav1-p6"}
SETS = {
    "ruler": ("x264-medium-ld32", "x265-medium-ld32", "x264-medium-ld32-psnr", "x265-medium-ld32-psnr", "x264-medium", "x265-medium",
              "x265-veryslow", "svtav1-p6"),
    "elfvc": ("x264-elfvc", "x265-elfvc", "svtav1-elfvc-ld"),
    "stills": ("jpeg", "webp", "avif", "x265-intra"),
}
"""Several conditions under one name."""


def condition_name(name: str) -> str:
    """The full name of one condition. Raises UsageError, naming those there are."""
    name = ALIASES.get(name, name)
    if name not in CONDITIONS and name not in STILLS:
        raise UsageError(f"unknown classical encoder {name!r}; choose from {', '.join((*ALIASES, *SETS, *CONDITIONS, *STILLS))}")
    return name


def condition_names(names: Iterable[str]) -> tuple[str, ...]:
    """Full names in the order given, each once, sets replaced by their members. Raises UsageError."""
    single = [part for name in names for part in SETS.get(name, (name,))]
    return tuple(dict.fromkeys(condition_name(name) for name in single))


def condition(name: str) -> Condition | StillCondition:
    """A condition by any of its names. Raises UsageError."""
    name = condition_name(name)
    return CONDITIONS.get(name) or STILLS[name]
