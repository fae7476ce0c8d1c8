"""MS-SSIM, XPSNR and VMAF: equal to their sources, and absent where they cannot be had."""

from __future__ import annotations

import os
import stat
from fractions import Fraction

import numpy as np
import pytest

from neuralcodec.bench import perceptual, vmaf
from neuralcodec.bench.metrics import plane_psnr
from neuralcodec.bench.perceptual import decibels, ms_ssim, unavailable, xpsnr
from neuralcodec.core.errors import MeasureError

RATE = Fraction(25)


def noisy(count: int, height: int, width: int, strength: int):
    rng = np.random.default_rng(8)
    rows, columns = np.mgrid[:height, :width]
    source, decoded = [], []
    for n in range(count):
        y = (128 + 60 * np.sin((columns + 2 * n) / 9) + 50 * np.cos(rows / 7)).astype(np.uint8)
        planes = (y, y[::2, ::2] // 2 + 60, y[1::2, ::2] // 3 + 80)
        source.append(planes)
        decoded.append(tuple(np.clip(p.astype(int) + rng.integers(-strength, strength + 1, p.shape), 0, 255).astype(np.uint8) for p in planes))
    return source, decoded


def test_ms_ssim_is_the_packages_mean_over_frames_of_luma():
    pytest.importorskip("pytorch_msssim")
    import torch
    from pytorch_msssim import ms_ssim as package

    source, decoded = noisy(3, 176, 192, 9)
    a, b = (torch.from_numpy(np.stack([p[0] for p in clip])[:, None]).float() for clip in (source, decoded))
    assert ms_ssim(source, decoded) == pytest.approx(float(package(a, b, data_range=255, size_average=False).mean()), abs=2e-5)
    assert ms_ssim(source, source) == pytest.approx(1)
    assert ms_ssim(*noisy(1, 176, 192, 30)) < ms_ssim(source, decoded)


def test_ms_ssim_in_decibels():
    assert decibels(0.99) == pytest.approx(20)
    assert decibels(1.0) == 100


def test_small_pictures_have_no_ms_ssim_and_no_xpsnr():
    source, decoded = noisy(1, 160, 200, 4)
    assert ms_ssim(source, decoded) is None
    source, decoded = noisy(1, 40, 50, 4)
    assert xpsnr(source, decoded, RATE) is None  # the filter of FFmpeg 8.1 would divide by zero


def test_xpsnr_is_the_filters_figure_with_the_source_first():
    if unavailable("xpsnr"):
        pytest.skip("this FFmpeg has no filter xpsnr")
    source, decoded = noisy(3, 96, 128, 5)
    y, u, v, all_planes = xpsnr(source, decoded, RATE)
    assert all_planes == pytest.approx((6 * y + u + v) / 8)
    assert xpsnr(source, source, RATE) == (100, 100, 100, 100)
    assert xpsnr(*noisy(3, 96, 128, 15), RATE)[3] < all_planes
    # Its weights come from the source: flat pictures with a noisy decoding are judged more harshly than the other way round.
    flat = [tuple(np.full_like(p, 128) for p in planes) for planes in source]
    assert xpsnr(flat, decoded, RATE)[0] < xpsnr(decoded, flat, RATE)[0] - 1


def test_different_counts_are_refused():
    source, decoded = noisy(2, 96, 128, 5)
    for figure in (lambda: ms_ssim(source, decoded[:1]), lambda: xpsnr(source, decoded[:1], RATE)):
        with pytest.raises(MeasureError, match="frame count: 2 in, 1 out"):
            figure()


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("av.filter.filters_available", {"psnr"})
    monkeypatch.setattr(vmaf, "find", lambda: None)
    unavailable.cache_clear()
    try:
        lines = [unavailable(name) for name in ("psnr", "ms_ssim", "xpsnr", "vmaf")]
    finally:
        unavailable.cache_clear()
    assert lines[0] is None
    assert all(line and "\n" not in line for line in lines[1:])
    assert "pytorch-msssim" in lines[1] and "xpsnr" in lines[2] and "libvmaf" in lines[3]


PROGRAMS = {
    "ffmpeg": """#!/bin/sh
case "$*" in
  *-filters*) echo " ... libvmaf           VV->V      Calculate the VMAF";;
  *-version*) echo "ffmpeg version of a test";;
  *) echo "$*" > "$LOG"; head -1 source.y4m >> "$LOG"; wc -c < decoded.y4m >> "$LOG"
     echo '{"pooled_metrics": {"vmaf": {"mean": 87.5}}}' > vmaf.json;;
esac
""",
    "vmaf": """#!/bin/sh
[ "$*" = --version ] && echo "a test's vmaf" && exit
echo "$*" > "$LOG"; head -1 source.y4m >> "$LOG"; wc -c < decoded.y4m >> "$LOG"
echo '{"pooled_metrics": {"vmaf": {"mean": 87.5}}}' > vmaf.json
""",
}


@pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_vmaf_asks_a_program_with_a_named_model(monkeypatch, tmp_path, kind):
    program = tmp_path / kind
    program.write_text(PROGRAMS[kind])
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setattr(vmaf.shutil, "which", lambda name: str(program) if name == kind else None)
    vmaf.find.cache_clear()
    try:
        source, decoded = noisy(2, 48, 64, 3)
        assert vmaf.find().kind == kind
        assert vmaf.vmaf(source, decoded, RATE) == 87.5
    finally:
        vmaf.find.cache_clear()
    said = (tmp_path / "log").read_text().splitlines()
    assert f"version={vmaf.VMAF_MODEL}" in said[0]
    assert said[1] == "YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg"
    assert int(said[2]) == len("YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n") + 2 * (6 + 64 * 48 * 3 // 2)


def test_a_program_that_fails_is_one_line(monkeypatch, tmp_path):
    source, decoded = noisy(1, 48, 64, 3)
    with pytest.raises(MeasureError, match="VMAF: .* failed"):
        vmaf.vmaf(source, decoded, RATE, vmaf.Tool("vmaf", str(tmp_path / "nothing"), ""))


def test_plane_psnr_takes_rgb():
    a = np.zeros((2, 3, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 3
    assert plane_psnr(a, b) == pytest.approx(10 * np.log10(255**2 * 18 / 9))
