"""Still pictures to streams and back: tiles without seams, alpha, gray, damage, thumbnails."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from neuralcodec.bitstream import AlphaPacket, Damage, FramePacket, Packet, StreamReader, TilePacket
from neuralcodec.bitstream.header import write_header
from neuralcodec.codecs.coding import CONTEXTUAL, Parsed
from neuralcodec.codecs.files import LoadedModel, load_model
from neuralcodec.codecs.registry import by_identity
from neuralcodec.codecs.tiles import TileCoder, as_fixed, as_int16, spans
from neuralcodec.core.errors import ModelError, StreamError, UsageError, VerifyError
from neuralcodec.core.types import ColourTags, VideoProperties
from neuralcodec.nn.layout import tensors_to_planes
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.decoder import DecodeOptions, complete_header
from neuralcodec.pipeline.encoder import EncodeOptions, StreamEncoder
from neuralcodec.pipeline.still_decoder import Part, StillDecoder
from neuralcodec.pipeline.stills import ALPHA_TO_SAMPLE, SAMPLE_TO_ALPHA, StillEncoder
from tests.bitstream.damage import damaged_variants, split
from tests.endtoend.toy import moving_texture

CPU = torch.device("cpu")
HEIGHT, WIDTH, TILE = 150, 219, 64


@pytest.fixture(scope="module")
def loaded(exact_toy_path) -> LoadedModel:
    return load_model(exact_toy_path)


class Picture:
    """A texture as a source."""

    name = "texture"

    def __init__(self, height: int = HEIGHT, width: int = WIDTH, alpha: np.ndarray | None = None, gray: bool = False, attachments=(), full: bool = False):
        (frame,) = moving_texture(1, height, width)
        self.whole = frame.planes if not gray else (frame.planes[0], *(np.full_like(p, 128) for p in frame.planes[1:]))
        self.properties = VideoProperties(width, height, Fraction(1, 25), colour=ColourTags(1, 13, 6, True, 2), still=True, gray=gray, full_chroma=full)
        self.opacity, self.attachments, self.rows = alpha, list(attachments), 0

    @property
    def has_alpha(self) -> bool:
        return self.opacity is not None

    def planes(self, top: int, bottom: int):
        self.rows = max(self.rows, bottom - top)
        y, u, v = self.whole
        return y[top:bottom], u[top // 2 : -(-bottom // 2)], v[top // 2 : -(-bottom // 2)]

    def chroma(self, top: int, bottom: int):
        y = self.whole[0][top:bottom].astype(int)
        return (y // 2 + 64).astype(np.uint8), (200 - y // 2).astype(np.uint8)

    def alpha(self, top: int, bottom: int) -> np.ndarray:
        return self.opacity[top:bottom]


def encode(loaded: LoadedModel, source: Picture, tile: int = TILE, level: int = 1, workers: int = 2) -> bytes:
    options = EncodeOptions(level, 80, workers=workers)
    return StillEncoder(loaded, options, CPU, tile_size=tile, whole_pixels=0 if tile else 1 << 26).encode(source).data


def decode(loaded: LoadedModel, data: bytes, strict: bool = True, workers: int = 2, thumbnail: bool = False):
    reader = StreamReader(io.BytesIO(data), strict=strict)
    return StillDecoder(reader, loaded, DecodeOptions(workers=workers, threads=1), CPU, thumbnail=thumbnail).run()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def test_loop_filters_are_for_whole_pictures(loaded):
    source = Picture()
    plain = StillEncoder(loaded, EncodeOptions(1, 80, loop_filter=False), CPU).encode(source).data
    whole, tiled = encode(loaded, source, 0), encode(loaded, source)
    assert [StreamReader(io.BytesIO(data)).header.loop_filter for data in (plain, whole, tiled)] == [False, True, False]
    luma = [decode(loaded, data).frame.planes[0] for data in (plain, whole)]
    assert psnr(luma[1], source.whole[0]) > psnr(luma[0], source.whole[0])


def test_corrections_bring_letters_nearer(loaded):
    """Of whole pictures; and without loop filters there are none."""
    source = Picture()
    source.whole[1][8:10, 6:30] = 250
    streams = [StillEncoder(loaded, EncodeOptions(1, 80, **options), CPU).encode(source).data for options in ({"corrections": False}, {"loop_filter": False}, {})]
    assert [StreamReader(io.BytesIO(data)).header.corrected for data in (*streams, encode(loaded, source))] == [False, False, True, False]
    plain, _, corrected = ([psnr(*pair) for pair in zip(decode(loaded, data).frame.planes, source.whole, strict=True)] for data in streams)
    assert corrected[1] > plain[1] + 1 and len(streams[2]) > len(streams[0])


def test_a_picture_coded_as_a_frame_is_filtered_as_it_is_otherwise(loaded):
    for size, filtered in (((WIDTH, HEIGHT), True), ((2048, 1025), False)):
        assert StreamEncoder(loaded, VideoProperties(*size, Fraction(1, 25), still=True), EncodeOptions(1, 80), CPU).header.loop_filter == filtered


def test_pictures_of_one_packet_are_bare(loaded):
    opaque, wide = np.full((HEIGHT, WIDTH), 255, np.uint8), Picture()
    wide.properties = replace(wide.properties, sample_aspect_ratio=Fraction(4, 3))
    others = [(Picture(alpha=opaque), 0), (Picture(attachments=[(1, b"profile")]), 0), (Picture(full=True), 0), (wide, 0), (Picture(), TILE)]
    plain = encode(loaded, Picture(), 0)
    header = StreamReader(io.BytesIO(plain)).header
    assert header.bare and header.model_id == loaded.key and len(split(plain)) == 2
    for source, tile in others:
        data = encode(loaded, source, tile)
        assert not StreamReader(io.BytesIO(data)).header.bare and StreamReader(io.BytesIO(data)).header.model_id == loaded.identity
        assert decode(loaded, data).frame.planes[0].shape == (HEIGHT, WIDTH)
    same = [decode(loaded, data).frame.planes for data in (plain, encode(loaded, wide, 0))]
    assert all(np.array_equal(a, b) for a, b in zip(*same, strict=True))


def test_a_bare_picture_wants_its_model_with_the_same_tables_and_a_level_of_it(loaded, monkeypatch):
    data, others = encode(loaded, Picture(), 0), replace(loaded, widths=(loaded.widths[1], *loaded.widths[1:]))
    monkeypatch.setattr("neuralcodec.codecs.registry.installed", dict)
    with pytest.raises(ModelError, match=f"a model with key {loaded.key.hex()}, which is not installed"):
        by_identity(loaded.key, "")
    with pytest.raises(ModelError, match=f"with a model with key {loaded.key.hex()}, not with a model with key {others.key.hex()}"):
        decode(others, data)
    header = replace(StreamReader(io.BytesIO(data)).header, level=loaded.levels + 1)
    with pytest.raises(StreamError, match="made for level 4; its model has 3"):
        decode(loaded, write_header(header) + split(data)[1])
    levels = [encode(loaded, Picture(), 0, level) for level in range(1, loaded.levels + 1)]
    for level, stream in enumerate(levels, 1):
        assert complete_header(StreamReader(io.BytesIO(stream)).header, loaded).width_tables[level - 1] == loaded.widths[level - 1]
    assert len({decode(loaded, stream).frame.planes[0].tobytes() for stream in levels}) == loaded.levels


@pytest.mark.parametrize("tile", [0, TILE])
def test_effort_costs_time_and_saves_bits_or_errors(loaded, tile):
    source, step = Picture(), 255 * 2.0**-5.46  # of quality 80
    costs, streams = [], []
    for effort in (0, 1):
        encoder = StillEncoder(loaded, EncodeOptions(1, 80, effort=effort, loop_filter=False), CPU, tile_size=TILE, whole_pixels=0 if tile else 1 << 26)
        streams.append(encoder.encode(source).data)
        error = sum(np.square(a.astype(float) - b).sum() for a, b in zip(decode(loaded, streams[-1]).frame.planes, source.whole, strict=True))
        costs.append(8 * len(streams[-1]) + 10 * error / step**2)
    assert costs[1] < 0.99 * costs[0]
    assert StreamReader(io.BytesIO(streams[1])).header == StreamReader(io.BytesIO(streams[0])).header


def untiled(loaded: LoadedModel, data: bytes) -> list[np.ndarray]:
    """The planes of a stream by one synthesis of all its latents."""
    reader = StreamReader(io.BytesIO(data))
    decoder = StillDecoder(reader, loaded, DecodeOptions(), CPU)
    height, width = decoder.size
    latent, quality = np.zeros((loaded.model.config.intra.latent, -(-height // 16), -(-width // 16)), np.int16), 0
    for part in decoder.parts():
        if isinstance(part, Part) and not isinstance(part.packet, AlphaPacket):
            row, column = divmod(part.number, len(decoder.columns))
            rows, columns = decoder.rows[row], decoder.columns[column]
            latent[:, rows.begin // 16 : -(-rows.end // 16), columns.begin // 16 : -(-columns.end // 16)] = as_int16(part.parsed)
            quality = part.quality
    whole = TileCoder(loaded.model, CPU).reconstruct("I", Parsed({CONTEXTUAL: as_fixed(latent)}, {}), quality, None)
    return list(tensors_to_planes(whole.y, whole.uv, height, width))


@pytest.mark.parametrize(("level", "size"), [(1, (HEIGHT, WIDTH)), (3, (65, 129))])
def test_tiles_have_no_seams_to_the_bit(loaded, level, size):
    data = encode(loaded, Picture(*size), level=level)
    for a, b in zip(decode(loaded, data).frame.planes, untiled(loaded, data), strict=True):
        assert np.array_equal(a, b)


def test_the_installed_model_has_no_seams_either():
    from neuralcodec.codecs.registry import by_name

    loaded = by_name()
    data = encode(loaded, Picture(70, 90))
    still = decode(loaded, data)
    assert all(np.array_equal(a, b) for a, b in zip(still.frame.planes, untiled(loaded, data), strict=True))
    apply_widths(loaded.model, loaded.widths[0])


def test_no_seam_can_be_seen(loaded):
    source = Picture()
    error = np.abs(decode(loaded, encode(loaded, source)).frame.planes[0].astype(float) - source.whole[0])
    borders = np.concatenate([error[:, c - 1 : c + 1].ravel() for c in range(TILE, WIDTH, TILE)])
    assert borders.mean() < 1.3 * error.mean()
    plain = StillEncoder(loaded, EncodeOptions(1, 80, loop_filter=False), CPU).encode(source).data
    whole = np.abs(decode(loaded, plain).frame.planes[0].astype(float) - source.whole[0])
    assert error.mean() < 1.02 * whole.mean()


@pytest.mark.parametrize(("tile", "size"), [(0, (1, 1)), (TILE, (1, 1)), (TILE, (1, 70)), (TILE, (65, 3)), (0, (2, 67)), (TILE, (64, 64))])
def test_any_size(loaded, size, tile):
    source = Picture(*size)
    still = decode(loaded, encode(loaded, source, tile))
    assert [p.shape for p in still.frame.planes] == [p.shape for p in source.whole]
    assert psnr(still.frame.planes[0], source.whole[0]) > 18


def test_rows_of_tiles_are_all_that_is_read_at_a_time(loaded):
    source = Picture(400, 70)
    encode(loaded, source)
    assert source.rows <= TILE + 2 * 16 * TileCoder(loaded.model).encoder_margin


def test_neither_workers_nor_the_order_of_tiles_change_anything(loaded):
    data = [encode(loaded, Picture(), workers=n) for n in (1, 3)]
    assert data[0] == data[1]
    stills = [decode(loaded, data[0], workers=n) for n in (1, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(*(s.frame.planes for s in stills), strict=True))


def test_a_whole_picture_is_one_frame_packet(loaded):
    kinds = [type(i.content) for i in StreamReader(io.BytesIO(encode(loaded, Picture(), tile=0))) if isinstance(i, Packet)]
    assert FramePacket in kinds and TilePacket not in kinds


@pytest.mark.parametrize("tile", [0, TILE])
def test_alpha_comes_back(loaded, tile):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    opacity = np.clip(3 * (90 - np.hypot(y - 75, x - 110)), 0, 255).astype(np.uint8)
    still = decode(loaded, encode(loaded, Picture(alpha=opacity), tile))
    assert psnr(still.alpha, opacity) > 25
    assert (still.alpha[opacity == 255] == 255).mean() > 0.5 and (still.alpha[opacity == 0] == 0).mean() > 0.5
    plain = decode(loaded, encode(loaded, Picture(), tile))
    assert plain.alpha is None
    assert all(np.array_equal(a, b) for a, b in zip(plain.frame.planes, still.frame.planes, strict=True))


def test_samples_of_alpha_stand_for_every_opacity():
    values = np.arange(256)
    assert np.abs(SAMPLE_TO_ALPHA[ALPHA_TO_SAMPLE].astype(int) - values).max() <= 1
    assert SAMPLE_TO_ALPHA[ALPHA_TO_SAMPLE][[0, 255]].tolist() == [0, 255]
    for shift in range(-4, 5):
        assert SAMPLE_TO_ALPHA[ALPHA_TO_SAMPLE[[0, 255]].astype(int) + shift].tolist() == [0, 255]


def test_gray_pictures_have_neutral_chroma(loaded):
    still = decode(loaded, encode(loaded, Picture(gray=True)))
    assert all((p == 128).all() for p in still.frame.planes[1:])
    assert psnr(still.frame.planes[0], Picture().whole[0]) > 30


@pytest.mark.parametrize("tile", [0, TILE])
def test_full_chroma_comes_back_in_three_planes_of_one_size(loaded, tile):
    source = Picture(full=True, alpha=np.full((HEIGHT, WIDTH), 90, np.uint8))
    data = encode(loaded, source, tile)
    still = decode(loaded, data)
    wanted = (source.whole[0], *source.chroma(0, HEIGHT))
    assert all(p.shape == (HEIGHT, WIDTH) and psnr(p, w) > 30 for p, w in zip(still.frame.planes, wanted, strict=True))
    assert psnr(still.alpha, source.opacity) > 25
    order = [getattr(i.content, "plane", type(i.content).__name__) for i in StreamReader(io.BytesIO(data)) if isinstance(i, Packet)]
    assert order.index(1) < order.index(2) < order.index("AlphaPacket")
    small = decode(loaded, data, thumbnail=True)
    assert all(p.shape == (-(-HEIGHT // 8), -(-WIDTH // 8)) for p in small.frame.planes)


def test_a_lost_chroma_plane_is_neutral_and_told(loaded):
    chunks = split(encode(loaded, Picture(full=True), 0))
    at = next(i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 11)
    still = decode(loaded, b"".join([*chunks[:at], chunks[at][:-1] + bytes([chunks[at][-1] ^ 1]), *chunks[at + 1 :]]), strict=False)
    assert len(still.damage) == 1 and (still.frame.planes[1] == 128).all() and (still.frame.planes[2] != 128).any()
    assert psnr(still.frame.planes[0], Picture().whole[0]) > 30


def test_attachments_come_back(loaded):
    attached = [(1, b"profile"), (2, b"exif"), (3, bytes(100000)), (99, b"later")]
    assert decode(loaded, encode(loaded, Picture(attachments=attached))).attachments == dict(attached)


@pytest.mark.parametrize("size", [(70, WIDTH)])
def test_a_thumbnail_is_the_mean_of_cells(loaded, size):
    data = encode(loaded, Picture(*size))
    small, whole = decode(loaded, data, thumbnail=True).frame.planes, decode(loaded, data).frame.planes[0]
    assert {p.shape for p in small} == {tuple(-(-n // 8) for n in size)}
    h, w = size[0] // 8, size[1] // 8
    means = whole[: 8 * h, : 8 * w].reshape(h, 8, w, 8).mean((1, 3))
    assert psnr(small[0][:h, :w], means) > 30


def test_a_damaged_tile_is_gray_and_no_other(loaded):
    data = encode(loaded, Picture())
    chunks, whole = split(data), decode(loaded, data).frame.planes
    numbers = [i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 8]
    at = numbers[5]  # row 1, column 1
    broken = bytearray(chunks[at])
    broken[-6] ^= 1
    damaged = b"".join([*chunks[:at], bytes(broken), *chunks[at + 1 :]])
    still = decode(loaded, damaged, strict=False)
    assert len(still.damage) == 1
    y = still.frame.planes[0]
    assert (y[64:128, 64:128] == 128).all()
    far = np.ones(y.shape, bool)
    far[48:144, 48:144] = False  # the toy model's decoder reads 16 samples around
    assert np.array_equal(y[far], whole[0][far])
    with pytest.raises(StreamError):
        decode(loaded, damaged)


def test_damaged_pictures_give_typed_errors(loaded):
    data = encode(loaded, Picture(20, 100, alpha=np.tile(np.arange(100, dtype=np.uint8), (20, 1)), attachments=[(1, bytes(50))]))
    decoded = 0
    for variant in damaged_variants(data, 34, 9):
        try:
            reader = StreamReader(io.BytesIO(variant.data))
            if (reader.header.video.width, reader.header.video.height) != (100, 20):
                continue
            still = StillDecoder(reader, loaded, DecodeOptions(workers=1, threads=1), CPU).run()
        except (StreamError, UsageError, LookupError):
            continue
        decoded += 1
        assert still.frame.planes[0].shape == (20, 100) and all(isinstance(d, Damage) for d in still.damage)
    assert decoded > 10


def test_a_tile_out_of_its_place_is_damage(loaded):
    chunks = split(encode(loaded, Picture()))
    tiles = [i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 8]
    swapped = list(chunks)
    swapped[tiles[1]], swapped[tiles[2]] = chunks[tiles[2]], chunks[tiles[1]]
    still = decode(loaded, b"".join(swapped), strict=False)
    assert len(still.damage) == 1 and "out of its place" in still.damage[0].reason
    with pytest.raises(StreamError):
        decode(loaded, b"".join(c for i, c in enumerate(chunks) if i not in tiles), strict=False)


def test_what_cannot_be_is_refused(loaded):
    source = Picture(2, 2)
    with pytest.raises(UsageError, match="level"):
        StillEncoder(loaded, EncodeOptions(9), CPU)
    source.properties = replace(source.properties, width=20000, height=20000)
    with pytest.raises(UsageError, match="more than"):
        StillEncoder(loaded, EncodeOptions(), CPU).encode(source)


def test_other_latents_than_written_are_noticed(loaded, monkeypatch):
    parse = TileCoder.parse

    def other(self, *args):
        parsed = parse(self, *args)
        return Parsed({CONTEXTUAL: as_fixed(as_int16(parsed) + 1)}, parsed.masks)

    monkeypatch.setattr(TileCoder, "parse", other)
    with pytest.raises(VerifyError):
        encode(loaded, Picture(64, 64))


def test_spans_cover_the_picture():
    for size, tile, margin in ((1, 0, 3), (1000, 256, 2), (256, 256, 3), (65, 64, 1)):
        found = spans(size, tile, margin)
        assert [s.begin for s in found[1:]] == [s.end for s in found[:-1]] and (found[0].begin, found[-1].end) == (0, size)
        assert all(s.outer_begin == max(s.begin - 16 * margin, 0) and s.outer_end == min(s.begin + (tile or size) + 16 * margin, size) for s in found)
