"""The models and the streams of conformance/exact/, conformance/bfloat16/ and conformance/four_parts/: everything exact, one group of pictures each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from conformance_streams import (
    DERIVED,
    EXCEPTIONS,
    SENT,
    SIZE,
    STREAMS,
    THRESHOLD,
    Maker,
    Recipe,
    moving_planes,
    random_model,
    width_tables,
)

from neuralcodec.bitstream import Chapter
from neuralcodec.codecs.conversion import calibrate, fold
from neuralcodec.codecs.exact import ExactFlagship, declare_rounding, picture_convs, set_formats, trunk_convs
from neuralcodec.codecs.files import save_model
from neuralcodec.codecs.flagship import FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.types import ColourTags, SidePacket, SideStream
from neuralcodec.nn.exact_convs import WideConv2d

SHARED = ("intra", "level1_derived", "level2_exceptions", "level3_threshold", "odd_size", "one_sample", "quality_0", "quality_200", "limits")
"""Streams that are made as those of the other model."""
SMALL = FlagshipConfig(
    intra=IntraConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=2, parts=2, chroma_path=False),
    motion=MotionConfig(channels=8, latent=4, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1, parts=3),
    inter=InterConfig(channels=16, latent=8, hyper=4, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1, decoder_blocks=2,
                      motion_channels=8, motion_latent=4, parts=2, chroma_path=False),
)
FOUR_PARTS = FlagshipConfig(replace(SMALL.intra, parts=4, chroma_path=True), replace(SMALL.motion, latent=8, parts=4), replace(SMALL.inter, motion_latent=8, parts=4, chroma_path=True))


def write_exact_model(path: Path) -> None:
    """The model of conformance/exact/: the float one's weights, but some filters weaker, some stronger, and some latents larger, so that there are
    exponents of all sizes and shifts in both directions, and limits are met; in formats found on pictures like those of the streams, some coarser."""
    model = fold(random_model())
    _save(path, model, "exact pictures")


def write_bfloat16_model(path: Path) -> None:
    """The model of conformance/bfloat16/: a smaller one made alike, in which the pointwise layers of the trunks, and besides them two depthwise layers
    and a pointwise unit, round their sums."""
    model = fold(random_model(SMALL))
    others = ("inter.decoder.fuse.conv", "inter.decoder.trunk.0.spatial", "motion.decoder.coarse.spatial")
    declare_rounding(model, {*trunk_convs(model), *others})
    _save(path, model, "exact pictures, sums rounded to bfloat16")


def write_four_parts_model(path: Path) -> None:
    """The model of conformance/four_parts/: a small one made alike, whose latents have four parts, with a path for chroma."""
    _save(path, fold(random_model(FOUR_PARTS)), "exact pictures, latents in four parts, a path for chroma")


def _save(path: Path, model: ExactFlagship, what: str) -> None:
    tables = width_tables(model)
    with torch.no_grad():
        for i, conv in enumerate(picture_convs(model).values()):
            for o in range(i % 4, conv.cout, 4):
                conv.weight[o] *= 2.0 ** (-7 if (o // 4 + i) % 2 or isinstance(conv, WideConv2d) else 2)
        for part in (model.intra, model.motion, model.inter):
            part.gain.decode[:, 3::8] += 4
    fractions = calibrate(model, [moving_planes(np.random.default_rng(1), 3, *SIZE)], tables)
    set_formats(model, {name: frac - i % 3 for i, (name, frac) in enumerate(fractions.items())})
    save_model(path, model, tables, {"description": f"random weights for the conformance streams, {what}"})


def _packets(m: Maker) -> bytes:
    side = SideStream("audio", "pcm_u8", Fraction(1, 8000), b"\1\2\3", 1, {"sample_rate": "8000", "layout": "mono"}, {"language": "und"})
    m.open((32, 48), side_streams=(side,), metadata={"title": "conformance"}, chapters=(Chapter(0, 4, Fraction(1, 25), {"title": "all"}),))

    def between(n: int) -> None:
        m.writer.write_side(SidePacket(0, bytes(range(10 * n)), 320 * n, None, 320))
        m.writer.unknown(8 + n, n, m.rng.bytes(20 * n))

    m.group(m.pictures(4), (DERIVED, EXCEPTIONS, SENT, THRESHOLD), between=between)
    return m.finish()


def _bare(m: Maker) -> bytes:
    m.open((32, 48), level=2, bare=True, loop_filter=True, directed=True, colour=ColourTags(1, 13, 6, True, 2), rotation=90)
    m.coder.follow(hypotheses=False, sparse=False, loop_filter=True, directed=True)
    m.coder.choose_filters = m.drawn_filters
    m.group(m.pictures(1), (THRESHOLD,), times=[(0, 0)])
    return m.finish()


EXACT_STREAMS: dict[str, Recipe] = {name: STREAMS[name] for name in SHARED}
EXACT_STREAMS["packets"] = Recipe("packets of every type: of a side stream and of unknown types 8 to 11 between the frames; all mask modes in turn", _packets)
EXACT_STREAMS["bare"] = Recipe("a bare picture: short header, one packet; level 2, loop filters", _bare)
BFLOAT16_STREAMS = {name: STREAMS[name] for name in ("level1_derived", "level2_exceptions", "quality_200", "limits")}
FOUR_PARTS_STREAMS = {name: STREAMS[name] for name in ("level1_derived", "level2_exceptions", "level3_threshold", "odd_size", "one_sample", "limits", "hypotheses", "sparse", "loop_filter", "directed_filters", "adaptive", "corrections")}
