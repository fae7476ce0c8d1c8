"""adanic.md: its numpy form reads what the product writes, and makes the same pictures but for rounding."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch
from disturbed import disturbed, waves
from reference.adanic import SCALE_INDEXES
from reference.adanic import AdaNIC as Reference
from reference.model import read_model
from reference.networks import ModelError
from reference.rans import StreamError
from reference_command import SPEC, reference

from neuralcodec.bitstream import StreamReader, StreamWriter
from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.capacity_coding import TABLES
from neuralcodec.codecs.coders import coder_for, place
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder, StreamEncoder

HEIGHT, WIDTH = 69, 139


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = disturbed(lambda: AdaNIC(AdaNICConfig((11, 9, 6, 5, 4), (14, 12, 9, 7, 5), 4)), 9, 0.03)
    path = tmp_path_factory.mktemp("adanic") / "tiny.safetensors"
    save_model(path, model, model.width_tables())
    return path


@pytest.mark.parametrize(("level", "options"), [(1, [[0, 4, 1], [3, 2, 2]]), (3, [[4, 2, 3], [2, 2, 4]]), (5, [[4] * 3] * 2)])
def test_the_chapter_decodes_what_the_product_encodes(path, level, options):
    loaded, file = load_model(path), read_model(path.read_bytes())
    assert file.identity == loaded.identity and file.adaptive and not file.slim and not file.exact
    place(loaded.model, torch.device("cpu"))
    apply_widths(loaded.model, loaded.widths[level - 1])
    coder, chapter = coder_for(loaded.model), Reference(file.tensors, file.metadata["config"], loaded.widths[level - 1])
    coder.choose_capacities = lambda *_: np.array(options)
    for quality, modes in ((0, tuple(MaskMode)), (111, (MaskMode.SENT,)), (200, ())):
        coder.mask_modes = modes
        coded = coder.encode_intra(waves(80, 144), quality, (HEIGHT, WIDTH))
        latent = chapter.read_frame("I", coded.payload, list(coded.modes), quality, HEIGHT, WIDTH)["contextual"]
        assert np.array_equal(latent.value, coded.parsed.latents["contextual"].integers[0].numpy())
        assert np.array_equal(latent.mask, coded.parsed.masks["contextual"]) and latent.options.tolist() == options
        y, u, v = chapter.picture(latent, quality)
        for ours, theirs in ((coded.planes.y[0, 0], y), (coded.planes.uv[0, 0], u), (coded.planes.uv[0, 1], v)):
            difference = np.abs(ours.numpy() - theirs)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01
        assert y.std() > 5


def test_the_chapter_refuses_what_the_product_refuses(path):
    file = read_model(path.read_bytes())
    for table in ([1, 1], [0], [3, 3]):
        with pytest.raises(ModelError, match="width table"):
            Reference(file.tensors, file.metadata["config"], table)
    chapter = Reference(file.tensors, file.metadata["config"], [0, 0])
    for kind, masks in (("P", [192]), ("I", [192, 192]), ("I", [0]), ("I", [64])):
        with pytest.raises(StreamError):
            chapter.read_frame(kind, b"\1\2\3", masks, 50, HEIGHT, WIDTH)


def test_the_command_prints_the_digests_of_the_product(path, tmp_path):
    loaded, file = load_model(path), io.BytesIO()
    planes = (np.full((HEIGHT, WIDTH), 90, np.uint8), *[np.arange(35 * 70, dtype=np.uint8).reshape(35, 70)] * 2)
    encoder = StreamEncoder(loaded, VideoProperties(WIDTH, HEIGHT, 1, still=False), EncodeOptions(workers=1, route="C2"), torch.device("cpu"))
    writer = StreamWriter(file, encoder.header)
    encoder.run([Frame(planes, 0)], writer)
    writer.finish()
    (tmp_path / "a.nvc").write_bytes(file.getvalue())
    outputs, errors = reference([tmp_path / "a.nvc"], path)
    decoder = StreamDecoder(StreamReader(io.BytesIO(file.getvalue())), loaded, DecodeOptions(pictures=False, workers=1), torch.device("cpu"))
    md5s = [hashlib.md5(b"".join(f.parsed.digest_parts())).hexdigest() for f in decoder.run()]
    assert errors == "" and outputs[0][0].split() == ["0", "I", md5s[0]]


def test_the_scale_indexes_of_the_chapter_are_those_of_the_product():
    row = next(line for line in (SPEC / "adanic.md").read_text().splitlines() if line.strip().startswith("| scale index |"))
    assert tuple(int(cell) for cell in row.strip().strip("|").split("|")[1:]) == TABLES == SCALE_INDEXES
