"""Motion compensation of exact_pictures.md, section 8, and predictions by cell of pictures.md, section 11, in numpy (int64): vectors in sixteenths of a
luma sample, predicted samples with 14 fractional bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .exact_layers import rshift

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
Step = tuple[np.ndarray, Planes]
"""Vectors (2, h, w) of a picture, and the samples of the one that they point into."""


class Past(NamedTuple):
    """Of a decoded picture: its step into its reference and the reference's own (if there are), its ways to the two long-term references, the last
    first, and whether it is such a one itself."""

    steps: tuple[Step, ...] = ()
    long: tuple[Step, ...] = ()
    lasting: bool = True


def _along(count: int, cells: int, f: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = np.maximum(2 * np.arange(count) + 1 - f, 0)
    i = u // (2 * f)
    return i, np.minimum(i + 1, cells - 1), u - 2 * f * i


def _double_columns(p: np.ndarray) -> np.ndarray:
    at = np.clip(np.arange(p.shape[1])[:, None] + np.arange(-2, 4), 0, p.shape[1] - 1)
    out = np.zeros((p.shape[0], 2 * p.shape[1]), dtype=np.int64)
    out[:, ::2] = 32 * p
    out[:, 1::2] = p[:, at] @ np.array([1, -5, 20, 20, -5, 1])
    return out


def sample_vectors(vectors: np.ndarray, rows: int, columns: int, f: int) -> np.ndarray:
    """Vectors of cells (2, rows / f, columns / f) in sixteenths of a luma sample -> (2, rows, columns) in eighths of a
    sample of the plane whose cells have f samples."""
    i, j, t = _along(rows, vectors.shape[1], f)
    g = vectors[:, i] * (2 * f - t)[:, None] + vectors[:, j] * t[:, None]
    i, j, t = _along(columns, vectors.shape[2], f)
    g = g[:, :, i] * (2 * f - t) + g[:, :, j] * t
    return np.clip(rshift(g, 9 if f == 8 else 8), -4096, 4096)


def compensate_plane(plane: np.ndarray, vectors: np.ndarray, f: int) -> np.ndarray:
    """A plane (R, S) of samples, vectors (2, R / f, S / f) in sixteenths of a luma sample -> (R, S), 14 fractional bits."""
    rows, columns = plane.shape
    d = sample_vectors(vectors, rows, columns, f)
    doubled = _double_columns(_double_columns(plane).T).T
    x = np.clip(8 * np.arange(columns) + d[0], 0, 4 * (2 * columns - 1))
    y = np.clip(8 * np.arange(rows)[:, None] + d[1], 0, 4 * (2 * rows - 1))
    x0, y0, tx, ty = x >> 2, y >> 2, x & 3, y & 3
    x1, y1 = np.minimum(x0 + 1, 2 * columns - 1), np.minimum(y0 + 1, 2 * rows - 1)
    top = (4 - tx) * doubled[y0, x0] + tx * doubled[y0, x1]
    return (4 - ty) * top + ty * ((4 - tx) * doubled[y1, x0] + tx * doubled[y1, x1])


def compensate(reference: Planes, vectors: np.ndarray) -> Planes:
    """Vectors (2, h, w) in sixteenths of a luma sample -> predicted samples with 14 fractional bits."""
    y, u, v = reference
    return compensate_plane(y, vectors, 8), compensate_plane(u, vectors, 4), compensate_plane(v, vectors, 4)


def follow(vectors: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Vectors into the reference's reference, from those of a picture and those of its reference."""
    _, rows, columns = vectors.shape
    x = np.clip(128 * np.arange(columns) + vectors[0], 0, 128 * (columns - 1))
    y = np.clip(128 * np.arange(rows)[:, None] + vectors[1], 0, 128 * (rows - 1))
    x0, y0, tx, ty = x >> 7, y >> 7, x & 127, y & 127
    x1, y1 = np.minimum(x0 + 1, columns - 1), np.minimum(y0 + 1, rows - 1)
    top = before[:, y0, x0] * (128 - tx) + before[:, y0, x1] * tx
    bottom = before[:, y1, x0] * (128 - tx) + before[:, y1, x1] * tx
    return np.clip(vectors + rshift(top * (128 - ty) + bottom * ty, 14), -8192, 8192)


def predict(first: Step, past: Past, choices: np.ndarray | None, lasting: bool) -> tuple[Planes, Past]:
    """Predicted samples, by the choices (h/2, w/2) of the cells (None where there are none), and the past of the picture that is made from them; ``past``
    is that of the reference, ``lasting`` says whether the picture is a long-term reference."""
    ways = [first]
    for i in range(2):
        ways.append((follow(ways[i][0], past.steps[i][0]), past.steps[i][1]) if i < len(past.steps) else ways[i])
    long = ([first] if past.lasting else []) + [(follow(first[0], vectors), planes) for vectors, planes in past.long]
    long = long[:2]
    own = Past((first, *past.steps[:1]), tuple(long), lasting)
    if choices is None:
        return compensate(first[1], first[0]), own
    one, two, three, far, farther = (compensate(planes, vectors) for vectors, planes in (*ways, long[0], long[-1]))
    still = tuple(p << 14 for p in first[1])
    out = []
    for p, q, r, s, t, u in zip(one, two, three, still, far, farther, strict=True):
        cell = p.shape[0] // choices.shape[0]
        shown = choices.repeat(cell, 0).repeat(cell, 1)
        means = {1: q, 4: s, 5: rshift(q + r, 1), 7: t, 9: u}
        everything = [{0: p, 2: q, 3: s, 6: t, 8: u}[k] if k not in means else rshift(p + means[k], 1) for k in range(10)]
        out.append(np.choose(shown, everything))
    return (out[0], out[1], out[2]), own
