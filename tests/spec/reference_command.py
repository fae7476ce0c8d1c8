"""The reference decoder as a command, where nothing of the product can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"

BLOCKED = """
import sys
for name in ("torch", "constriction", "neuralcodec", "safetensors", "google_crc32c"):
    sys.modules[name] = None  # importing it raises ImportError
sys.path.insert(0, sys.argv[1])
from reference import decode
model = sys.argv[2]
for stream in sys.argv[3:]:
    sys.stdout.write(f"{decode.main([stream, model])}\\n")
"""
"""Runs the reference decoder over several streams in one process, each followed by its exit code."""


def reference(streams: list[Path], model: Path) -> tuple[list[list[str]], str]:
    """Lines that the reference decoder prints for each stream, its exit code last; and standard error."""
    command = [sys.executable, "-c", BLOCKED, str(SPEC), str(model), *map(str, streams)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    outputs: list[list[str]] = [[]]
    for line in result.stdout.splitlines():
        outputs[-1].append(line)
        if len(line) == 1:
            outputs.append([])
    return outputs[:-1], result.stderr
