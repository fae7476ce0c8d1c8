"""slimcae.md: its numpy form reads what the product writes, and makes the same pictures but for rounding."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from disturbed import disturbed, waves
from reference.model import read_model
from reference.networks import ModelError
from reference.rans import StreamError
from reference.slimcae import SlimCAE as Reference
from reference_command import SPEC, reference

from neuralcodec.codecs.coders import coder_for, place
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.slimcae import SlimCAE, SlimCAEConfig
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.selection import apply_widths

WIDTHS = (14, 11, 9, 6, 4)
HEIGHT, WIDTH = 37, 83
PLUS = pytest.mark.parametrize("path", ["slim-plus"], indirect=True)


@pytest.fixture(scope="module")
def path(request, tmp_path_factory):
    model = disturbed(lambda: SlimCAE(SlimCAEConfig(WIDTHS, request.param)), 9, 0.03)
    path = tmp_path_factory.mktemp("slimcae") / f"{request.param}.safetensors"
    save_model(path, model, model.width_tables())
    return path


@pytest.mark.parametrize(("path", "level"), [("slim-plus", 1), ("slim-plus", 4), ("slim-plus", 5), ("slim", 2), ("switch", 3)], indirect=["path"])
def test_the_chapter_decodes_what_the_product_encodes(path, level):
    loaded, file = load_model(path), read_model(path.read_bytes())
    assert file.identity == loaded.identity and file.slim and not file.exact
    place(loaded.model, torch.device("cpu"))
    apply_widths(loaded.model, loaded.widths[level - 1])
    coder, chapter = coder_for(loaded.model), Reference(file.tensors, file.metadata["config"], loaded.widths[level - 1])
    for quality, modes in ((0, tuple(MaskMode)), (111, (MaskMode.SENT,)), (200, ())):
        coder.mask_modes = modes
        coded = coder.encode_intra(waves(48, 96), quality, (HEIGHT, WIDTH))
        latent = chapter.read_frame("I", coded.payload, list(coded.modes), quality, HEIGHT, WIDTH)["contextual"]
        assert np.array_equal(latent.value, coded.parsed.latents["contextual"].integers[0].numpy())
        assert np.array_equal(latent.mask, coded.parsed.masks["contextual"])
        y, u, v = chapter.picture(latent, quality)
        for ours, theirs in ((coded.planes.y[0, 0], y), (coded.planes.uv[0, 0], u), (coded.planes.uv[0, 1], v)):
            difference = np.abs(ours.numpy() - theirs)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01
        assert y.std() > 5


@PLUS
def test_the_chapter_refuses_what_the_product_refuses(path):
    file = read_model(path.read_bytes())
    for table in ([1, 1], [0], [3, 3]):
        with pytest.raises(ModelError, match="width table"):
            Reference(file.tensors, file.metadata["config"], table)
    chapter = Reference(file.tensors, file.metadata["config"], [0, 0])
    for kind, masks in (("P", [192]), ("I", [192, 192]), ("I", [0]), ("I", [64])):
        with pytest.raises(StreamError):
            chapter.read_frame(kind, b"\1\2\3", masks, 50, HEIGHT, WIDTH)


@PLUS
def test_the_command_prints_the_digests_of_the_product(path, tmp_path):
    import hashlib
    import io

    from neuralcodec.bitstream import StreamReader, StreamWriter
    from neuralcodec.core.types import Frame, VideoProperties
    from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder, StreamEncoder

    loaded, file = load_model(path), io.BytesIO()
    video = VideoProperties(WIDTH - 1, HEIGHT - 1, 1, still=False)
    planes = (np.full((HEIGHT - 1, WIDTH - 1), 90, np.uint8), *[np.arange(18 * 41, dtype=np.uint8).reshape(18, 41)] * 2)
    encoder = StreamEncoder(loaded, video, EncodeOptions(level=3, workers=1), torch.device("cpu"))
    writer = StreamWriter(file, encoder.header)
    encoder.run([Frame(planes, 0), Frame(planes, 1)], writer)
    writer.finish()
    (tmp_path / "a.nvc").write_bytes(file.getvalue())
    outputs, errors = reference([tmp_path / "a.nvc"], path)
    decoder = StreamDecoder(StreamReader(io.BytesIO(file.getvalue())), loaded, DecodeOptions(pictures=False, workers=1), torch.device("cpu"))
    md5s = [hashlib.md5(b"".join(f.parsed.digest_parts())).hexdigest() for f in decoder.run()]
    assert errors == "" and [line.split() for line in outputs[0][:2]] == [["0", "I", md5s[0]], ["1", "I", md5s[1]]]


@PLUS
def test_the_tables_of_the_chapter_are_those_of_the_layers(path):
    from neuralcodec.codecs.slimcae_prior import leading_parts

    chapter = (SPEC / "slimcae.md").read_text()
    rows = {cells[0].strip("` "): [c.strip() for c in cells[1:]]
            for cells in (line.strip("|").split("|") for line in chapter.splitlines() if line.startswith("| `prior.")) if len(cells) == 10}
    model = load_model(path).model
    convs, biases = leading_parts(model)
    assert rows.keys() == convs.keys()
    c = json.loads(read_model(path.read_bytes()).metadata["config"])["widths"][1]
    names = {"C": c, "A": -(-c // 2), "Z": -(-c // 4), "4 A": 4 * -(-c // 2)}
    owners = {id(conv): name for name, (_, conv) in biases.items()}
    for name, (kind, i, o, *formats, extra) in rows.items():
        conv = convs[name]
        assert (names[i], names[o]) == conv.channels(1)
        assert formats == [*map(str, (conv.frac_in, conv.limit_in, conv.frac_out, conv.limit_out)), "yes" if conv.relu else "no"]
        assert kind == ("depthwise 3x3" if conv.depthwise else "dense 1x1") and extra.strip("`") == owners.get(id(conv), "")
