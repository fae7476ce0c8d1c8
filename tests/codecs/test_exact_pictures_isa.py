"""Exactness over instruction sets: pictures of an exact model are the same on the oldest and the newest kernels, and without oneDNN."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import random_flagship

import neuralcodec

ROOT = str(Path(neuralcodec.__file__).resolve().parents[1])
SCRIPT = str(Path(random_flagship.__file__).resolve())
OLDEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}


def start(threads, backend, settings):
    clean = {k: v for k, v in os.environ.items() if k not in OLDEST}
    path = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, SCRIPT, str(threads), backend], stdout=subprocess.PIPE, text=True,
                            env=clean | settings | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)})


def test_pictures_do_not_depend_on_the_instruction_set():
    running = [start(1, "onednn", OLDEST), start(2, "onednn", {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}), start(2, "plain", {})]
    results = [p.communicate(timeout=240)[0].split() for p in running]
    assert [p.returncode for p in running] == [0, 0, 0]
    if platform.machine() in ("x86_64", "AMD64"):
        assert results[0][0] == "DEFAULT"
    assert {digest for _, digest in results} == {random_flagship.digest()}, results
