"""Measuring our codec on clips in memory through the cache: ``keeping`` gives a function that stands in for
ours.measure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from neuralcodec.bench import cache, ours
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Clip, Point
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.digest import RunningMd5


def model_facts(loaded: LoadedModel) -> dict[str, str]:
    """What of a model a point depends on. The identity does not cover the width tables."""
    return {"model": loaded.identity.hex(), "tables": hashlib.sha256(b"".join(loaded.widths)).hexdigest()}


def variant_facts(variant: Variant | None) -> list[Any]:
    """What of a variant a point depends on, for a key."""
    variant = variant or Variant()
    return [variant.name, str(variant.mask_modes), variant.widths and variant.widths.hex()]


def clip_digest(clip: Clip) -> str:
    """A hash over a clip's pictures and properties."""
    md5 = RunningMd5()
    for frame in clip.frames:
        md5.update(frame)
    return f"{md5.hexdigest()} {clip.video}"


def keeping(store: cache.Store) -> Callable[..., Point]:
    """``ours.measure``, but what is in the store is not measured again. Timed points always are."""

    def measure(clip: Clip, loaded: LoadedModel, level: int, quality: float, **options: Any) -> Point:
        if options.get("timed", True):
            return ours.measure(clip, loaded, level, quality, **options)
        plain = {k: v for k, v in options.items() if k not in ("variant", "device", "keep")}
        key = cache.key(
            "keeping",
            clip=clip_digest(clip),
            **model_facts(loaded),
            level=level,
            quality=float(quality),
            options=plain,
            variant=variant_facts(options.get("variant")),
            device=cache.device_name(str(options.get("device", "cpu"))),
            program=cache.program(ours=True),
            machine=cache.machine(),
        )
        if (entry := store.get(key)) is not None:
            try:
                return replace(Point.from_dict(entry), clip=clip.name)
            except TypeError:
                pass
        point = replace(ours.measure(clip, loaded, level, quality, **options), measured=cache.now())
        store.put(key, point.to_dict())
        return point

    return measure
