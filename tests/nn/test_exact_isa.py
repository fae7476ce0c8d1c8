"""Exactness over instruction sets: the entropy path gives the same integers on the oldest and the newest kernels."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import random_prior

import neuralcodec

ROOT = str(Path(neuralcodec.__file__).resolve().parents[1])
SCRIPT = str(Path(random_prior.__file__).resolve())
OLDEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def start(threads, settings):
    clean = {k: v for k, v in os.environ.items() if k not in OLDEST}
    path = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, SCRIPT, str(threads)], stdout=subprocess.PIPE, text=True,
                            env=clean | settings | {"PYTHONPATH": path})


def test_oldest_and_newest_instruction_set_agree():
    running = [start(1, OLDEST), start(2, {})]
    (old, oldest), (new, newest) = (p.communicate(timeout=120)[0].split() for p in running)
    assert [p.returncode for p in running] == [0, 0]
    if platform.machine() in ("x86_64", "AMD64"):
        assert old == "DEFAULT"
    assert oldest == newest == random_prior.digest(), (old, new)
