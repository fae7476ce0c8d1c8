"""Training clips: a pack of short clips, decoded once to planes and kept in memory (or on the GPU).

A cache folder holds, for each pack, ``NAME.frames.npy`` (N, H * 3 / 2, W) uint8 in I420 layout, ``NAME.clips.json`` with each clip's
frame count, and ``NAME.flow.npy`` (2, N, H/8, W/8, 2) float16, see training.flow.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.estimation import CELL
from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.training.detail import add_detail
from neuralcodec.training.graphics import draw_graphics
from neuralcodec.training.rescale import draw_side, rescale

SMALLEST, WHOLE_SHARE = 24, 0.15
"""Of foreign rectangles: least side in luma samples; share of those that fill the picture."""
VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m"}


@dataclass
class Clips:
    """Decoded clips of one size: ``frames`` (N, H * 3 / 2, W) uint8, ``lengths`` frames of each clip, in order; ``flow`` as above."""

    frames: np.ndarray
    lengths: list[int]
    flow: np.ndarray | None = None

    @property
    def height(self) -> int:
        return self.frames.shape[1] * 2 // 3

    @property
    def width(self) -> int:
        return self.frames.shape[2]

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])


def decode_pack(pack: Path, cache: Path) -> Clips:
    """Decode all clips of a folder (all must share one size), or load them from the cache. Raises InputError."""
    frames_path, clips_path = cache / f"{pack.name}.frames.npy", cache / f"{pack.name}.clips.json"
    if not (frames_path.exists() and clips_path.exists()):
        files = sorted(p for p in pack.iterdir() if p.suffix in VIDEO_SUFFIXES) if pack.is_dir() else []
        if not files:
            raise InputError(f"{pack}: no clips to train on")
        cache.mkdir(parents=True, exist_ok=True)
        frames: list[np.ndarray] = []
        lengths = []
        for file in files:
            clip = list(_read(file))
            lengths.append(len(clip))
            frames.extend(clip)
        if len({f.shape for f in frames}) != 1:
            raise InputError(f"{pack}: the clips of a pack must have one size")
        partial = frames_path.with_suffix(".part")
        with open(partial, "wb") as f:
            np.save(f, np.stack(frames))
        os.replace(partial, frames_path)
        clips_path.write_text(json.dumps(lengths))
    return Clips(np.load(frames_path, mmap_mode="r"), json.loads(clips_path.read_text()))


def _read(path: Path):
    """All frames of a clip in I420 layout, by PyAV or, where that is not installed, by OpenCV."""
    try:
        import av
    except ImportError:
        import cv2

        capture = cv2.VideoCapture(str(path))
        while True:
            ok, bgr = capture.read()
            if not ok:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    else:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="yuv420p")


@dataclass
class Batch:
    """``y`` (T, B, 1, S, S) and ``uv`` (T, B, 2, S/2, S/2) uint8; ``flow`` (T-1, B, 2, S/8, S/8) in luma pixels (x, y), or None;
    ``foreign`` (T-1, B, 1, S/8, S/8) bool, the cells of the later frames that nothing before predicts, or None."""

    y: Tensor
    uv: Tensor
    flow: Tensor | None
    foreign: Tensor | None = None


class Sampler:
    """Random crops of consecutive frames with flips, time reversal, gamma jitter and, where asked for, on half of them each, other scales and chroma
    scaled about gray.

    Crops start at multiples of 8 luma samples, so that flow labels (one for 8x8) can be cut along. ``skips``: how often every frame, every second and
    every third one is taken. ``foreign``: chance that something which nothing before predicts comes into a sample with the next frame, once at
    most, see ``paste_foreign``.
    ``saturation``: the logarithm of the largest factor of chroma. (Clips that were scaled down have soft, pale chroma, and transforms that see nothing
    else stop carrying its details.) ``detail``: see training.detail. ``scale``: the logarithm of the largest factor by which a crop is resized, up or down, see training.rescale.
    ``graphics``: chance that something is drawn over a sample, see training.graphics.
    """

    def __init__(self, packs: list[Clips], seed: int, *, gamma: float = 0.15, saturation: float = 0.0, scale: float = 0.0, detail: float = 0.0,
                 graphics: float = 0.0, skips: tuple[float, ...] = (1.0,), foreign: float = 0.0) -> None:
        self.packs, self.gamma, self.saturation, self.scale, self.detail, self.graphics = packs, gamma, saturation, scale, detail, graphics
        self.skips, self.foreign = np.array(skips), foreign
        self.rng = np.random.default_rng(seed)
        self.weights = np.array([len(p.frames) for p in packs], float)
        self.weights /= self.weights.sum()

    def batch(self, size: int, count: int, frames: int, *, flow: bool = False) -> Batch:
        """``count`` clips of ``frames`` frames, cropped to ``size`` (a multiple of 16). Raises UsageError when no clip is that large or long."""
        if any(size > min(p.height, p.width) or max(p.lengths) < frames for p in self.packs):
            raise UsageError(f"the training clips are too small or too short for crops of {size} and {frames} frames")
        items = [self._one(size, frames, flow) for _ in range(count)]
        stack = [torch.from_numpy(np.stack([it[i] for it in items], 1)) for i in range(2)]
        batch = Batch(stack[0], stack[1], torch.from_numpy(np.stack([it[2] for it in items], 1)) if flow else None)
        return paste_foreign(batch, self.rng, 1 - (1 - self.foreign) ** (frames - 1)) if self.foreign else batch

    def _one(self, size: int, frames: int, flow: bool) -> tuple[np.ndarray, ...]:
        rng = self.rng
        pack = self.packs[rng.choice(len(self.packs), p=self.weights)]
        clip = rng.integers(len(pack.lengths))
        while pack.lengths[clip] < frames:
            clip = rng.integers(len(pack.lengths))
        skip = 1 + rng.choice(len(self.skips), p=self.skips / self.skips.sum())
        skip = max(1, min(skip, (pack.lengths[clip] - 1) // max(1, frames - 1)))
        span = (frames - 1) * skip + 1
        first = pack.starts[clip] + rng.integers(pack.lengths[clip] - span + 1)
        height, width = pack.height, pack.width
        wanted = size
        if self.scale and rng.random() < 0.5:
            size = draw_side(rng, size, self.scale, min(height, width))
        top, left = rng.integers((height - size) // 8 + 1) * 8, rng.integers((width - size) // 8 + 1) * 8
        reverse, mirror, turn = rng.random(3) < 0.5
        dense = np.arange(first, first + span)[:: -1 if reverse else 1]
        order = dense[::skip]
        raw = pack.frames[np.sort(order)][:: -1 if reverse else 1]
        y = raw[:, top : top + size, left : left + size]
        chroma = raw[:, height:].reshape(frames, 2, height // 2, width // 2)
        uv = chroma[:, :, top // 2 : (top + size) // 2, left // 2 : (left + size) // 2]
        f = None
        if flow:
            # Row i holds the vectors between frames i and i + 1 of the pack: [0] of the later frame, [1] of the earlier one.
            row = pack.flow[1, dense[1:]] if reverse else pack.flow[0, dense[1:] - 1]
            f = chain_flow(row.astype(np.float32), skip)
            f = f[:, top // 8 : (top + size) // 8, left // 8 : (left + size) // 8].transpose(0, 3, 1, 2)
        if size != wanted:
            y, uv, f = rescale(y, uv, f, wanted)
        for axis, flip in ((-1, mirror), (-2, turn)):
            if flip:
                y, uv = np.flip(y, axis), np.flip(uv, axis)
                if f is not None:
                    f = np.flip(f, axis).copy()
                    f[:, 0 if axis == -1 else 1] *= -1
        if self.gamma and rng.random() < 0.5:
            g = np.exp(rng.uniform(-self.gamma, self.gamma))
            table = np.round(255 * (np.arange(256) / 255) ** g).astype(np.uint8)
            y = table[y]
        if self.saturation and rng.random() < 0.5:
            factor = np.exp(rng.uniform(0, self.saturation))
            table = np.round((np.arange(256) - 128) * factor + 128).clip(0, 255).astype(np.uint8)
            uv = table[uv]
        if self.detail and rng.random() < 0.5:
            y, uv = add_detail(rng, y, uv, self.detail)
        if self.graphics and rng.random() < self.graphics:
            y, uv = draw_graphics(rng, y, uv)
        return np.ascontiguousarray(y)[:, None], np.ascontiguousarray(uv), f


def chain_flow(flow: np.ndarray, skip: int) -> np.ndarray:
    """Vectors of consecutive pairs (T * skip, h, w, 2) in luma samples -> of every ``skip``-th frame to the one before it (T, h, w, 2): each cell follows
    the vector of the cell that it comes from."""
    out = flow[skip - 1 :: skip].copy()
    height, width = flow.shape[1:3]
    row, column = np.mgrid[:height, :width]
    for back in range(1, skip):
        x = np.clip(column + np.round(out[..., 0] / CELL).astype(int), 0, width - 1)
        y = np.clip(row + np.round(out[..., 1] / CELL).astype(int), 0, height - 1)
        earlier = flow[skip - 1 - back :: skip]
        out += earlier[np.arange(len(out))[:, None, None], y, x]
    return out


def paste_foreign(batch: Batch, rng: np.random.Generator, share: float) -> Batch:
    """Another sample's pictures, from some frame on, in a rectangle of a sample (seldom all over it): what comes into view, and scene cuts.

    Without them a P frame's networks hardly ever see what no reference predicts, and code it with several times the bits of an intra frame."""
    frames, count, _, size, _ = batch.y.shape
    if frames < 2 or count < 2:
        return batch
    y, uv, flow = batch.y.clone(), batch.uv.clone(), None if batch.flow is None else batch.flow.clone()
    foreign = torch.zeros(frames - 1, count, 1, size // CELL, size // CELL, dtype=torch.bool)
    for b in range(count):
        if rng.random() >= share:
            continue
        start, other = rng.integers(1, frames), (b + rng.integers(1, count)) % count
        height, width = (size, size) if rng.random() < WHOLE_SHARE else rng.integers(SMALLEST // CELL, size // CELL, 2, endpoint=True) * CELL
        top, left = rng.integers((size - height) // CELL + 1) * CELL, rng.integers((size - width) // CELL + 1) * CELL
        for planes, source, n in ((y, batch.y, 1), (uv, batch.uv, 2), (flow, batch.flow, CELL)):
            if planes is not None:
                first = start - 1 if planes is flow else start
                where = (slice(top // n, (top + height) // n), slice(left // n, (left + width) // n))
                planes[first:, b, :, *where] = source[first:, other, :, *where]
        foreign[start - 1, b, 0, top // CELL : (top + height) // CELL, left // CELL : (left + width) // CELL] = True
    return Batch(y, uv, flow, foreign)
