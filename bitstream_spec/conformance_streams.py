"""The model and the streams of make_conformance.py: what each stream is there for, and how it is made."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuralcodec.bitstream import Arithmetic, Chapter, FramePacket, StreamHeader, StreamWriter
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.packets import frame_packet
from neuralcodec.codecs.coding import CONTEXTUAL, MOTION, FlagshipCoder, Parsed, Planes, code_parts
from neuralcodec.codecs.files import LoadedModel, save_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import HyperEncoder, IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.codecs.prior import MEAN_FRAC, LatentPrior, exact_parts, hyper_size, latent_size
from neuralcodec.core.types import (
    CORRECTION_STEPS,
    ColourTags,
    PlaneCorrections,
    PlaneFilter,
    SidePacket,
    SideStream,
    VideoProperties,
)
from neuralcodec.entropy import Elements, FrameEncoder, MaskMode, code_latent, pack_mask_mode, write_mask
from neuralcodec.entropy.choices import CHOICES, ChoiceStatistics
from neuralcodec.entropy.corrections import MAX_LEVEL, CorrectionPlanes, CorrectionStatistics
from neuralcodec.entropy.filters import LIMIT, USUAL, FilterPlanes, FilterState
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.hypotheses import Ways
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.quality import ANCHORS, QualityGain
from neuralcodec.nn.selection import apply_widths, units
from neuralcodec.nn.slimmable import SlimmableBlock

CONFIG = FlagshipConfig(
    intra=IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1, parts=2, chroma_path=False),
    motion=MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1, parts=3),
    inter=InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                      decoder_blocks=1, motion_channels=16, motion_latent=8, parts=2, chroma_path=False),
)
DERIVED, EXCEPTIONS, SENT, THRESHOLD = MaskMode
SIZE = (48, 80)


# -- the model -----------------------------------------------------------------------------------------------------------


def write_model(path: Path) -> None:
    """The model of conformance/: ``random_model`` as it is."""
    model = random_model()
    save_model(path, model, width_tables(model), {"description": "random weights for the conformance streams"})


def random_model(config: FlagshipConfig = CONFIG) -> Flagship:
    """A small flagship of random weights, lively enough that masks are mixed and symbols of all sizes occur."""
    torch.manual_seed(2)
    model = Flagship(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LatentPrior):
                _enliven(module)
            elif isinstance(module, SlimmableBlock):  # a new block's branches are zero, so that it is the identity
                for conv in (module.spatial, module.project):
                    conv.weight.copy_(0.1 * torch.randn(conv.weight.shape))
                    conv.bias.copy_(0.1 * torch.randn(conv.bias.shape))
            elif isinstance(module, HyperEncoder):
                module.down2.weight.mul_(20)
            elif isinstance(module, QualityGain):
                steps = torch.linspace(2.0, 7.0, ANCHORS)[:, None] + 0.5 * torch.rand(module.encode.shape)
                module.encode.copy_(steps)
                module.decode.copy_(-steps)
        _enliven_steps(model)
        for part, decoder in ((model.intra, model.intra.synthesis), (model.inter, model.inter.decoder)):
            for conv in (part.analysis.chroma, decoder.chroma.conv) if part.config.chroma_path else ():
                conv.weight.copy_(0.1 * torch.randn(conv.weight.shape))
                conv.bias.copy_(0.1 * torch.randn(conv.bias.shape))
        for name, parameter in model.named_parameters():
            if ".prior." not in name and "gain" not in name and "units" not in name:
                parameter.copy_(torch.round(parameter * 32) / 32)  # few values: the file packs well
    return model


def width_tables(model: Flagship) -> list[bytes]:
    """Of three levels, with all widths in them."""
    count = len(units(model))
    return [bytes(count), bytes((0, 1, 0, 2)[i % 4] for i in range(count)), bytes((2, 1, 2, 2)[i % 4] for i in range(count))]


def _enliven_steps(model: Flagship) -> None:
    """Where a new model is neutral: the units of a decoder's two directions differ, and context and reference are heard."""
    decoder, refinement = model.inter.decoder, model.motion.refinement
    for units_ in (model.intra.synthesis.units, decoder.units):
        units_.decode.add_(0.3 * torch.randn(units_.decode.shape))
    decoder.context_units.encode.copy_(torch.linspace(-1.0, 1.0, ANCHORS)[:, None] + 0.3 * torch.randn(decoder.context_units.encode.shape))
    decoder.fuse.conv.weight.add_(0.1 * torch.randn(decoder.fuse.conv.weight.shape))
    refinement.head.weight.copy_(0.1 * torch.randn(refinement.head.weight.shape))


def _enliven(prior: LatentPrior) -> None:
    count = prior.channels
    for _, conv in sorted(exact_parts(prior)[0].items()):
        conv.bias.add_(0.2 * torch.randn(conv.cout))
    prior.mean_head.weight.mul_(2.0)
    prior.scale_head.weight.mul_(3.0)
    prior.scale_head.bias.copy_(torch.linspace(9.0, 0.0, count))
    prior.scale_quality.anchors.copy_(torch.linspace(-2.0, 4.0, ANCHORS)[:, None] + 0.5 * torch.randn(ANCHORS, count))
    prior.up1_quality.anchors.copy_((torch.randn(prior.up1_quality.anchors.shape)).round() / 4)
    prior.mode.leave.weight.mul_(4.0)
    prior.mode.leave.bias.copy_(torch.linspace(2.0, -1.5, count) + 0.7 * torch.randn(count))
    prior.hyper_scale.copy_(torch.linspace(4.0, 9.0, ANCHORS)[:, None] + 2 * torch.rand(prior.hyper_scale.shape))
    for part in (prior.later[i] for i in range(prior.parts - 1)):  # a new one of them is deaf to what is decoded, or hears nothing else
        part.fuse.weight[:, prior.fuse.cin :].add_(0.2 * torch.randn(part.fuse.weight[:, prior.fuse.cin :].shape))
        part.mean_head.weight.add_(0.1 * torch.randn(part.mean_head.weight.shape))
        part.scale_head.weight.add_(0.3 * torch.randn(part.scale_head.weight.shape))
        part.scale_head.bias.copy_(torch.linspace(8.0, 0.0, count))
        part.scale_quality.anchors.copy_(torch.linspace(-2.0, 4.0, ANCHORS)[:, None] + 0.5 * torch.randn(ANCHORS, count))


# -- making streams ------------------------------------------------------------------------------------------------------


def moving_planes(rng: np.random.Generator, count: int, height: int, width: int, noise: int = 0) -> list[tuple[np.ndarray, ...]]:
    """A random smooth texture that moves by (2, 1) samples a frame under a still window: planes of uint8."""
    pictures = []
    waves = rng.uniform(-0.25, 0.25, (3, 6, 2)), rng.uniform(0, 6.3, (3, 6)), rng.uniform(4, 14, (3, 6))
    for n in range(count):
        planes = []
        for i, (h, w) in enumerate([(height, width)] + 2 * [(-(-height // 2), -(-width // 2))]):
            step = 2 if i else 1
            y, x = np.mgrid[:h, :w] * step + np.array([n, 2 * n])[:, None, None]
            frequency, phase, size = (part[i] for part in waves)
            plane = 128 + (np.sin(frequency[:, :1, None] * y + frequency[:, 1:, None] * x + phase[:, None, None])
                           * size[:, None, None]).sum(0)
            plane[h // 4 : h // 2, w // 4 : w // 2] = 50 + 60 * i
            planes.append(np.clip(plane + rng.integers(-noise, noise + 1, (h, w)), 0, 255).astype(np.uint8))
        pictures.append(tuple(planes))
    return pictures


class Writer(StreamWriter):
    """With packets of types that version 1.0 does not know."""

    def unknown(self, type_: int, flags: int, body: bytes) -> None:
        self._put(frame_packet(type_ << 4 | flags, body))


class LaterWriter(Writer):
    """Writes as a later minor version might: more fields at the end of header, group starts and index, extensions in frames."""

    def _put(self, data: bytes) -> None:
        kind = data[0] >> 4
        if self.position == 0:
            data = data[:9] + b"\x03" + (len(data) - 18 + 5).to_bytes(4, "little") + data[14:-4] + b"later"
            data += crc32c(data).to_bytes(4, "little")
            self._header_bytes = data
        elif kind in (1, 2, 3, 5):
            lengths = 2 if data[1] < 128 else 3
            body = data[lengths:-4]
            if kind in (2, 3) and data[0] & 15 == 0:
                data = frame_packet(data[0] | 8, body[:1] + b"\x04more" + body[1:])
            elif kind in (1, 5):
                data = frame_packet(data[0], body + b"later")
        super()._put(data)


class Maker:
    """What a stream is made with: the model, random numbers of the stream's own, and a writer once ``open`` was called."""

    def __init__(self, loaded: LoadedModel, name: str) -> None:
        self.loaded, self.coder = loaded, FlagshipCoder(loaded.model)
        self.coder.lambdas = dict.fromkeys(self.coder.lambdas, 40.0)  # more that is not 0, and more of it coded, than it is worth
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.file = io.BytesIO()
        self.turn = 0

    def open(self, size: tuple[int, int] = SIZE, *, level: int = 1, quality: int = 100, writer: type = Writer, still: bool = False,
             bare: bool = False, **header: Any) -> Writer:
        self.size, self.quality = size, quality
        apply_widths(self.loaded.model, self.loaded.widths[level - 1])
        still |= bare
        if bare:
            header["gop_size"] = 1
        video = VideoProperties(size[1], size[0], header.pop("time_base", Fraction(1, 25)), Fraction(0 if still else 25), still=still,
                                colour=header.pop("colour", ColourTags()), rotation=header.pop("rotation", 0))
        arithmetic = Arithmetic.EXACT if self.loaded.exact else Arithmetic.FLOAT_PICTURES
        whole = StreamHeader(video, self.loaded.identity, "conformance", self.loaded.widths, level, arithmetic, quality=quality, **header)
        self.writer = writer(self.file, whole.as_bare() if bare else whole)
        return self.writer

    def pictures(self, count: int, noise: int = 0) -> list[Planes]:
        planes = moving_planes(self.rng, count, *self.size, noise=noise)
        return [Planes(*planes_to_tensors(p, torch.device("cpu"))) for p in planes]

    def group(self, pictures: Sequence[Planes], modes: Sequence[MaskMode] = (DERIVED,), *, times: Sequence[tuple[int, int]] = (),
              qualities: Sequence[int] = (), start: int = 0, lasting: Sequence[int] = (), between: Callable[[int], None] = lambda n: None) -> None:
        """One group of pictures. ``modes`` are those that the frames' masks may have, taken in turn by the frames; ``times`` are
        (pts, duration) of each frame; ``between(n)`` may write packets before frame n; frames ``lasting`` are long-term references."""
        times = times or [(start + n, 1) for n in range(len(pictures))]
        self.writer.start_gop(times[0][0], frame_step=0 if self.writer.header.bare else 1)
        coded = None
        for n, picture in enumerate(pictures):
            between(n)
            quality = qualities[n] if qualities else self.quality
            self.coder.mask_modes = (modes[n % len(modes)],)
            if coded is None:
                coded = self.coder.encode_intra(picture, quality, self.size)
            else:
                coded = self.coder.encode_inter(picture, quality, self.size, pictures[n - 1], coded.planes, coded.parsed, lasting=n in lasting)
            self.writer.write_frame(FramePacket(n == 0, times[n][0], coded.payload, coded.modes, times[n][1], quality))

    def drawn_choices(self, source: Planes, ways: Ways, worth: float, before: np.ndarray | None, statistics: ChoiceStatistics) -> np.ndarray:
        """Choices of predictions of all kinds, some as in the frame before; in one frame of five none."""
        h, w = (n // 16 for n in source.y.shape[2:])
        self.turn += 1
        if self.turn % 5 == 4:
            return np.zeros((h, w), np.uint8)
        drawn = np.where(self.rng.random((h, w)) < 0.5, self.rng.integers(0, CHOICES, (h, w)), 0).astype(np.uint8)
        return drawn if before is None else np.where(self.rng.random((h, w)) < 0.4, before, drawn).astype(np.uint8)

    def drawn_filters(self, real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], worth: float, before: FilterState | None, search: bool) -> FilterPlanes:
        """Filters whose coefficients are drawn; in one frame of four those of the frame before."""
        self.turn += 1
        if before is not None and self.turn % 4 == 3:
            return before.planes
        planes: list[PlaneFilter | None] = []
        for index in range(3):
            sent = None if before is None else before.sent[index]
            choice = self.rng.integers(0, 4)
            classes = 1
            if index == 0:
                classes = (4, 8)[self.turn % 2] if self.coder.directed else int(self.rng.choice([1, 2, 4]))
            new = PlaneFilter(np.clip(self.rng.integers(-9, 10, (classes, 12)) + (USUAL if choice else 0), -LIMIT, LIMIT))
            if self.coder.directed:
                luma = self.rng.integers(-9, 10, (1, 12)) if index and self.rng.integers(0, 2) else None
                new = PlaneFilter(new.coefficients, int(self.rng.integers(0, 4)), luma)
            planes.append(None if choice == 3 else sent if choice == 2 and sent is not None else new)
        return tuple(planes)

    def drawn_corrections(self, real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], filters: FilterPlanes, size: tuple[int, int], worth: float,
                          before: CorrectionStatistics, importance: Tensor | None, thorough: bool) -> CorrectionPlanes:
        """Corrections of many blocks, of few, of none, with levels up to the largest; in some planes none."""
        planes: list[PlaneCorrections | None] = []
        for index in range(3):
            shape = tuple(n // (8 if index else 4) for n in real[0].shape[2:])
            share = self.rng.choice([0.02, 0.2, 0.8])
            around = self.rng.random(tuple(n + 1 for n in shape)) < share
            where = np.flatnonzero((around[1:, 1:] | around[:-1, 1:]) & (self.rng.random(shape) < 0.9))
            magnitudes = np.floor(2 ** (2 * self.rng.uniform(-1, 1, (len(where), 4, 4)))) * (self.rng.random((len(where), 4, 4)) < 0.4)
            magnitudes[:1, 1, 2] = MAX_LEVEL
            levels = magnitudes.astype(np.int64) * self.rng.choice([-1, 1], magnitudes.shape)
            new = PlaneCorrections(int(self.rng.integers(0, CORRECTION_STEPS)), where, self.rng.random(len(where)) < 0.4, levels)
            planes.append(None if self.rng.random() < 0.3 else new)
        return tuple(planes)

    def drawn_frame(self, number: int, quality: int, previous: Parsed | None) -> tuple[FramePacket, Parsed]:
        """A frame whose symbols are drawn, up to the largest that there are, and whose masks are drawn too."""
        encoder, modes, known = FrameEncoder(), [], {}
        model, kind = self.loaded.model, "P" if number else "I"
        priors = {CONTEXTUAL: model.intra.prior} if kind == "I" else {MOTION: model.motion.prior, CONTEXTUAL: model.inter.prior}
        for name, prior in priors.items():
            index = prior.hyper_scale_index(torch.tensor([quality]))[0].numpy()
            shape = (prior.hyper, *hyper_size(*self.size))
            z = self._symbols(shape, 127)
            encoder.put(z, np.broadcast_to(index[:, None, None], shape))
            temporal = []
            if kind == "P":
                if previous is not None and MOTION in previous.latents:
                    temporal.append(previous.latents[name])
                else:
                    temporal.append(Fixed(torch.zeros(1, prior.channels, *latent_size(*self.size)), MEAN_FRAC, 1))
                temporal += list(known.values())

            first = len(modes)

            def draw(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray, first: int = first,
                     bytes_: int = prior.division.mask_bytes) -> tuple[Elements, np.ndarray]:
                turn = first + min(part, bytes_ - 1)
                mode, parameter, mask = self._mask(2 * number + turn, scale, derived)
                if turn == len(modes):
                    modes.append(pack_mask_mode(mode, parameter))
                symbols = self._symbols(scale.shape, 32767)
                write_mask(encoder, mode, parameter, mask, scale, derived)
                code_latent(encoder, symbols, scale, mask)
                return Elements.of(np.where(mask, symbols, 0)), mask

            known[name], _ = code_parts(prior, Fixed.from_integers(torch.from_numpy(z)[None], 0, 127), temporal, quality, self.size, draw)
        packet = FramePacket(kind == "I", number, encoder.finish(), tuple(modes), 1, quality)
        return packet, self.coder.parse(kind, packet.payload, packet.modes, quality, self.size, previous)

    def _symbols(self, shape: tuple[int, ...], largest: int) -> np.ndarray:
        magnitude = np.floor(2 ** self.rng.uniform(-4, np.log2(largest + 1), shape)) * (self.rng.random(shape) < 0.3)
        symbols = np.minimum(magnitude, largest) * self.rng.choice([-1, 1], shape)
        symbols.reshape(-1)[:2] = largest, -largest
        return symbols.astype(np.int32)

    def _mask(self, turn: int, scale: np.ndarray, derived: np.ndarray) -> tuple[MaskMode, int, np.ndarray]:
        if turn % 3 == 0:
            return THRESHOLD, 20, scale >= 20
        if turn % 3 == 2:
            return EXCEPTIONS, 16 if turn == 2 else 3, derived | (self.rng.random(scale.shape) < 0.1)
        channels, choice = {4: (4, 1), 7: (16, 2)}.get(turn, (scale.shape[0], 3))
        flags = self.rng.random((-(-scale.shape[0] // channels), -(-scale.shape[1] // 4), -(-scale.shape[2] // 4))) < 0.5
        wide = flags.repeat(channels, 0).repeat(4, 1).repeat(4, 2)[tuple(slice(n) for n in scale.shape)]
        return SENT, 16 * choice + 10, wide

    def finish(self) -> bytes:
        self.writer.finish()
        return self.file.getvalue()


# -- the streams ---------------------------------------------------------------------------------------------------------


class Recipe(NamedTuple):
    """A stream: what it is there for, and how to make it."""

    description: str
    make: Callable[[Maker], bytes]


STREAMS: dict[str, Recipe] = {}


def _stream(description: str) -> Callable[[Callable[[Maker], bytes]], Callable[[Maker], bytes]]:
    def register(make: Callable[[Maker], bytes]) -> Callable[[Maker], bytes]:
        STREAMS[make.__name__] = Recipe(description, make)
        return make

    return register


@_stream("a still picture: one intra frame, derived mask")
def intra(m: Maker) -> bytes:
    m.open(still=True)
    m.group(m.pictures(1))
    return m.finish()


@_stream("level 1; derived masks; the first P frame has no temporal latents, the others have")
def level1_derived(m: Maker) -> bytes:
    m.open(level=1)
    m.group(m.pictures(4))
    return m.finish()


@_stream("level 2; derived masks with exceptions")
def level2_exceptions(m: Maker) -> bytes:
    m.open(level=2)
    m.group(m.pictures(4), (EXCEPTIONS,))
    return m.finish()


@_stream("level 3; masks by a threshold of the scale index")
def level3_threshold(m: Maker) -> bytes:
    m.open(level=3)
    m.group(m.pictures(4), (THRESHOLD,))
    return m.finish()


@_stream("masks sent as flags of 4x4 blocks, with blocks cut by the right and lower edge")
def sent(m: Maker) -> bytes:
    m.open((144, 112), quality=60)
    m.group(m.pictures(3), (SENT,))
    return m.finish()


@_stream("35x21 samples: odd in both directions; all mask modes in turn")
def odd_size(m: Maker) -> bytes:
    m.open((21, 35))
    m.group(m.pictures(4), (DERIVED, EXCEPTIONS, SENT, THRESHOLD))
    return m.finish()


@_stream("1x1 sample: latents of one position, so that all of their parts but the first are empty; all mask modes in turn")
def one_sample(m: Maker) -> bytes:
    m.open((1, 1))
    m.group(m.pictures(5), (DERIVED, EXCEPTIONS, SENT, THRESHOLD))
    return m.finish()


@_stream("two groups with variable time stamps and durations, and another quality in every frame")
def two_groups(m: Maker) -> bytes:
    m.open(quality=120, time_base=Fraction(1, 1000), gop_size=3)
    pictures = m.pictures(7)
    m.group(pictures[:3], times=[(-40, 40), (0, 33), (47, 33)], qualities=[120, 77, 199])
    m.group(pictures[3:], (EXCEPTIONS, DERIVED), times=[(80, 40), (120, 0), (1000, 7), (1007, 90000)], qualities=[24, 25, 26, 50])
    return m.finish()


@_stream("quality index 0")
def quality_0(m: Maker) -> bytes:
    m.open(quality=0)
    m.group(m.pictures(3, noise=8), (DERIVED, EXCEPTIONS))
    return m.finish()


@_stream("quality index 200, noise: symbols beyond their tables (escapes)")
def quality_200(m: Maker) -> bytes:
    m.open((32, 48), quality=200)
    m.group(m.pictures(3, noise=60), (DERIVED, THRESHOLD))
    return m.finish()


@_stream("symbols and masks that no encoder would choose: escapes up to 32767, hyper latents up to 127, latents at their limits")
def limits(m: Maker) -> bytes:
    m.open((37, 70))
    m.writer.start_gop(0, frame_step=1)
    previous = None
    for number, quality in enumerate((13, 200, 110, 60)):
        packet, previous = m.drawn_frame(number, quality, previous)
        m.writer.write_frame(packet)
    return m.finish()


@_stream("a side stream whose packets stand between the frames, with and without times; metadata, a chapter, colour tags, rotation")
def side_stream(m: Maker) -> bytes:
    side = SideStream("audio", "pcm_u8", Fraction(1, 8000), b"\1\2\3", 1, {"sample_rate": "8000", "layout": "mono"}, {"language": "und"})
    m.open(side_streams=(side,), metadata={"title": "conformance \u00e9"}, chapters=(Chapter(0, 3, Fraction(1, 25), {"title": "all"}),),
           colour=ColourTags(1, 13, 6, True, 1), rotation=90, encoder="make_conformance.py")
    packets = [SidePacket(0, bytes(range(40)), -320, -400, 320), SidePacket(0, b"", None, None, keyframe=False), SidePacket(0, b"x" * 9, 320, None)]
    m.group(m.pictures(3), between=lambda n: m.writer.write_side(packets[n]))
    return m.finish()


@_stream("predictions by cell, all kinds of choices, a frame without any, long-term references, two groups")
def hypotheses(m: Maker) -> bytes:
    m.open((60, 100), quality=60, hypotheses=True)
    m.coder.hypotheses, m.coder.choose = True, m.drawn_choices
    m.group(m.pictures(10), lasting=(3, 6))
    m.group(m.pictures(3), (THRESHOLD,), start=10)
    return m.finish()


@_stream("nearly certain elements in groups: intra and P frames, all mask modes, symbols that surprise")
def sparse(m: Maker) -> bytes:
    m.open((60, 100), quality=90, sparse=True)
    m.coder.sparse = True
    m.group(m.pictures(4, noise=8))
    m.group(m.pictures(5, noise=60), (THRESHOLD, DERIVED, EXCEPTIONS, SENT), start=4)
    return m.finish()


@_stream("loop filters of all numbers of classes: new ones, those of before, none, in I and P frames, two groups")
def loop_filter(m: Maker) -> bytes:
    m.open((60, 100), quality=110, loop_filter=True, hypotheses=True)
    m.coder.follow(True, False, True, False)
    m.coder.choose_filters = m.drawn_filters
    m.group(m.pictures(9))
    m.group(m.pictures(3), (THRESHOLD,), start=9)
    return m.finish()


@_stream("loop filters with directions, with clipped differences and with luma's, in I and P frames")
def directed_filters(m: Maker) -> bytes:
    m.open((60, 100), quality=110, loop_filter=True, directed=True)
    m.coder.follow(False, False, True, True)
    m.coder.choose_filters = m.drawn_filters
    m.group(m.pictures(9, noise=30))
    return m.finish()


@_stream("corrections of blocks, cosines and plain ones, with filters and without, in I and P frames, two groups; so wide that flags are read in strips")
def corrections(m: Maker) -> bytes:
    m.open((60, 550), quality=110, loop_filter=True, directed=True, corrected=True)
    m.coder.follow(False, False, True, True, corrected=True)
    m.coder.choose_filters, m.coder.choose_corrections = m.drawn_filters, m.drawn_corrections
    m.group(m.pictures(3))
    m.group(m.pictures(1), start=3)
    return m.finish()


@_stream("tables that adapt: all mask modes, nearly certain elements in groups, symbols that surprise, frames of other qualities, two groups")
def adaptive(m: Maker) -> bytes:
    m.open((60, 100), quality=90, adaptive=True, sparse=True)
    m.coder.follow(False, True, False, False, True)
    m.group(m.pictures(7, noise=20), (DERIVED, THRESHOLD, EXCEPTIONS, SENT), qualities=(90, 90, 60, 90, 120, 90, 97))
    m.group(m.pictures(4, noise=60), start=7)
    return m.finish()


@_stream("packets of unknown types 8 to 11 between the frames, to be passed over")
def unknown_packets(m: Maker) -> bytes:
    m.open()
    m.group(m.pictures(4), between=lambda n: m.writer.unknown(8 + n, 15 - 5 * n, m.rng.bytes(50 * n)))
    return m.finish()


@_stream("version 1.3 of the format: more fields in header, group start and index, extensions in frames, to be passed over")
def later_minor(m: Maker) -> bytes:
    m.open((32, 48), writer=LaterWriter)
    m.group(m.pictures(2))
    m.group(m.pictures(2), start=2)
    return m.finish()
