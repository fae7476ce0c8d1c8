"""VMAF by a program on the user's PATH: an ffmpeg with libvmaf, or vmaf itself."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from neuralcodec.bench.metrics import Planes
from neuralcodec.core.errors import MeasureError

VMAF_MODEL = "vmaf_v0.6.1"
_SECONDS = 3600


@dataclass(frozen=True)
class Tool:
    """``kind`` is "ffmpeg" or "vmaf"; ``version`` the first line that it says about itself."""

    kind: str
    path: str
    version: str


@functools.cache
def find() -> Tool | None:
    """The first that there is; None without one."""
    if (path := shutil.which("ffmpeg")) and "libvmaf" in _said(path, "-hide_banner", "-filters"):
        return Tool("ffmpeg", path, _said(path, "-version").partition("\n")[0])
    if path := shutil.which("vmaf"):
        return Tool("vmaf", path, _said(path, "--version").strip().partition("\n")[0])
    return None


def _said(*command: str) -> str:
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout + result.stderr


def vmaf(source: Sequence[Planes], decoded: Sequence[Planes], rate: Fraction, tool: Tool | None = None) -> float:
    """Mean VMAF over frames (0 to 100) with the model VMAF_MODEL. Raises MeasureError when there is no tool or it fails."""
    tool = tool or find()
    if tool is None:
        raise MeasureError("VMAF: no ffmpeg with libvmaf and no vmaf on the PATH")
    with tempfile.TemporaryDirectory(prefix="ncodec-vmaf-") as folder:
        for name, clip in (("source.y4m", source), ("decoded.y4m", decoded)):
            _write_y4m(Path(folder) / name, clip, rate)
        if tool.kind == "ffmpeg":
            command = [tool.path, "-nostdin", "-v", "error", "-i", "decoded.y4m", "-i", "source.y4m", "-lavfi",
                       f"libvmaf=model=version={VMAF_MODEL}:log_fmt=json:log_path=vmaf.json:n_threads={os.cpu_count() or 1}", "-f", "null", "-"]
        else:
            command = [tool.path, "-q", "-r", "source.y4m", "-d", "decoded.y4m", "--model", f"version={VMAF_MODEL}", "--json", "-o", "vmaf.json"]
        result = None
        try:
            result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
            return float(json.loads((Path(folder) / "vmaf.json").read_text())["pooled_metrics"]["vmaf"]["mean"])
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"VMAF: {tool.path} did not end") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = (result.stderr.strip().splitlines() or ["no word"])[-1] if result else str(error)
            raise MeasureError(f"VMAF: {tool.path} failed ({said})") from error


def _write_y4m(path: Path, clip: Sequence[Planes], rate: Fraction) -> None:
    height, width = clip[0][0].shape
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A1:1 C420jpeg\n".encode())
        file.writelines(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes) for planes in clip)
