"""Streams cross from old kernels to new ones and back: see exactness.py, which runs on real clips and models too."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import exactness


def _frames() -> int:
    # Two threads that wait for each other at every layer take minutes when other programs keep the processors busy.
    busy = os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    return 3 if busy and not os.environ.get("NCODEC_FULL_TESTS") else 96


def test_streams_of_old_and_new_kernels_decode_alike(toy_path, tmp_path):
    frames = _frames()
    args = exactness.parse(["--model", str(toy_path), "--frames", str(frames), "--quality", "75"])
    results = list(exactness.compare(args, tmp_path))
    print(*results, sep="\n")
    assert [(r["level"], r["frames"]) for r in results] == [(level, frames) for level in (1, 2, 3) for _ in range(2)]
    for r in results:
        assert r["latents_and_masks"] and r["widths"] and r["psnr_difference"] <= 0.01 and r["ok"], r
        assert 0.05 < r["coded_share"]["contextual"] < 0.98, "masks that say nothing"
    if platform.machine() in ("x86_64", "AMD64"):
        assert [r["encoder"] for r in results if r["encoder"].startswith("old")] == ["old (DEFAULT)"] * 3
    assert len({r["widths_md5"] for r in results}) == 3


def test_an_exact_model_with_other_pictures_fails(tmp_path, monkeypatch):
    sent = {"kernels": "DEFAULT", "exact": True, "latents": "1", "widths": "2", "pictures": "3", "frames": 1, "psnr": [40.0], "coded": {}}
    args = exactness.parse(["--model", "none", "--levels", "1"])
    monkeypatch.setattr(exactness, "_start", lambda *_: subprocess.Popen([sys.executable, "-c", ""]))
    for exact, pictures, ok in ((True, "4", False), (True, "3", True), (False, "4", True)):
        for name in ("0-1-old", "0-1-new"):
            (tmp_path / f"{name}.nvc").touch()
            for work, record in (("encode", sent), ("decode", sent | {"pictures": pictures})):
                (tmp_path / f"{name}.{work}.json").write_text(json.dumps(record | {"exact": exact}))
        assert [r["ok"] for r in exactness.compare(args, tmp_path)] == [ok, ok]
