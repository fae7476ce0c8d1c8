"""Pictures at the command line: one file, many files, what is attached to them, thumbnails."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageCms

from neuralcodec.cli.batch import Batch, Task, collect
from neuralcodec.cli.common import Talk
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import InputError, OutputError, UsageError

WIDTH, HEIGHT = 40, 24
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    image = Image.fromarray(np.stack([x * 5 % 256, y * 9 % 256, (x + y) * 3 % 256], -1).astype(np.uint8)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray((x * 6 % 256).astype(np.uint8)))
    return image


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo that lies on its side, with a profile and EXIF."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, "Maker"
    picture().save(path, exif=exif, icc_profile=PROFILE)
    return path


@pytest.fixture(scope="module")
def photo_stream(cli, photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "photo.nvc"
    cli.encode(photo, path)
    return path


def test_a_photo_goes_round_with_all_that_belongs_to_it(cli, photo_stream, tmp_path):
    for ending in ("png", "jpg", "webp", "tif", "avif"):
        path = tmp_path / f"out.{ending}"
        assert cli.decode(photo_stream, "-o", path).stderr == ""
        with Image.open(path) as image:
            assert image.size == (HEIGHT, WIDTH)
            assert image.info["icc_profile"] == PROFILE and image.getexif()[271] == "Maker" and image.getexif().get(0x0112, 1) == 1
    told = cli.decode(photo_stream, "-o", tmp_path / "out.bmp").stderr
    assert told.count("left out") == 2


def test_samples_are_the_same_everywhere(cli, photo_stream, tmp_path):
    cli.decode(photo_stream, "-o", tmp_path / "out.yuv")
    (tmp_path / "x.md5").write_text(cli.decode(photo_stream, "--md5").stdout)
    cli.decode(photo_stream, "-o", tmp_path / "out.png", "--verify", tmp_path / "x.md5")
    (tmp_path / "y.md5").write_text("0" * 32)
    assert cli("decode", photo_stream, "-o", tmp_path / "no.png", "--verify", tmp_path / "y.md5", "--model", cli.model).exit_code == 1
    assert not (tmp_path / "no.png").exists()
    piped = cli.decode(photo_stream, "-o", "-", "--format", "png").stdout_bytes
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(piped))), np.asarray(Image.open(tmp_path / "out.png")))


def test_alpha_and_gray_are_kept(cli, tmp_path):
    picture(mode="RGBA").save(tmp_path / "a.png")
    picture(mode="L").save(tmp_path / "g.png")
    for name, mode in (("a", "RGBA"), ("g", "L")):
        cli.encode(tmp_path / f"{name}.png", tmp_path / f"{name}.nvc")
        cli.decode(tmp_path / f"{name}.nvc", "-o", tmp_path / f"{name}2.png")
        assert Image.open(tmp_path / f"{name}2.png").mode == mode
    assert "alpha: left out" in cli.decode(tmp_path / "a.nvc", "-o", tmp_path / "a.jpg").stderr
    document = json.loads(cli.ok("inspect", tmp_path / "a.nvc", "--json", "--model", cli.model).stdout)
    assert document["packets"]["alpha"]["count"] == 1 and "alpha contextual" in document["skipped_percent"]
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    assert "gray" in cli.ok("inspect", tmp_path / "g.nvc", "--model", cli.model).stdout


def test_a_plain_picture_is_bare_and_told_with_and_without_its_model(cli, tmp_path):
    picture().save(tmp_path / "p.png")
    cli.encode(tmp_path / "p.png", tmp_path / "p.nvc")
    known, unknown = (cli.ok("inspect", tmp_path / "p.nvc", "--json", *model) for model in (("--model", cli.model), ()))
    document = json.loads(known.stdout)
    loaded = by_name(cli.model)
    assert document["header"]["bare"] and set(document["packets"]) == {"I frame"} and document["header"]["bytes"] + document["packets"]["I frame"]["framing"] < 56
    assert document["model"] == {"name": "tiny", "identity": loaded.identity.hex(), "installed": True} and document["header"]["levels"] == loaded.levels
    assert document["width_tables"] == [list(table) for table in loaded.widths] and document["latents_md5"]
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    assert f"a model with key {loaded.key.hex()}" in unknown.stderr and len(unknown.stderr.splitlines()) == 1
    document = json.loads(unknown.stdout)
    assert document["model"] == {"name": "", "identity": loaded.key.hex(), "installed": False} and document["header"]["levels"] is None
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    texts = [cli.ok("inspect", tmp_path / "p.nvc", *model).stdout for model in (("--model", cli.model), ())]
    assert "bare" in texts[0] and "level 1 of 3" in texts[0] and "level 1, quality" in texts[1] and not any("groups of pictures" in text for text in texts)
    failed = cli("decode", tmp_path / "p.nvc", "-o", tmp_path / "no.png")
    assert failed.exit_code == 7 and loaded.key.hex() in failed.stderr and not (tmp_path / "no.png").exists()


def test_full_chroma_keeps_what_420_loses(cli, tmp_path):
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(stripes).save(tmp_path / "s.png")
    decoded = {}
    for chroma in ("420", "444"):
        said = cli.ok("encode", tmp_path / "s.png", "-o", tmp_path / f"{chroma}.nvc", "--chroma", chroma, "--quality", 95).stderr
        assert said.count("8-bit 4:" + ":".join(chroma[1:])) == 1
        cli.ok("decode", tmp_path / f"{chroma}.nvc", "-o", tmp_path / f"{chroma}.png")
        decoded[chroma] = np.asarray(Image.open(tmp_path / f"{chroma}.png")).astype(float)
    errors = {chroma: np.mean((d - stripes) ** 2) for chroma, d in decoded.items()}
    assert errors["444"] < errors["420"] / 4
    assert "4:4:4" in cli.ok("inspect", tmp_path / "444.nvc").stdout
    document = json.loads(cli.ok("inspect", tmp_path / "444.nvc", "--json").stdout)
    assert document["packets"]["chroma"]["count"] == 2 and document["header"]["full_chroma"]
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    cli.ok("decode", tmp_path / "444.nvc", "-o", tmp_path / "s.yuv")
    planes = (tmp_path / "s.yuv").read_bytes()
    assert len(planes) == 3 * HEIGHT * WIDTH and hashlib.md5(planes).hexdigest() in cli.ok("decode", tmp_path / "444.nvc", "--md5").stdout
    cli.ok("decode", tmp_path / "444.nvc", "-o", tmp_path / "s.y4m")
    assert b" C444 " in (tmp_path / "s.y4m").read_bytes()[:80] and (tmp_path / "s.y4m").read_bytes().endswith(planes)
    assert "halved to 4:2:0" in cli.ok("decode", tmp_path / "444.nvc", "-o", tmp_path / "s.mkv").stderr


def test_inspect_knows_tiles_and_attachments(cli, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("neuralcodec.pipeline.stills.StillEncoder.__init__.__kwdefaults__", {"tile_size": 64, "whole_pixels": 0})
    picture(70, 66).save(tmp_path / "t.png", icc_profile=PROFILE)
    cli.encode(tmp_path / "t.png", tmp_path / "t.nvc")
    text = cli.ok("inspect", tmp_path / "t.nvc", "--model", cli.model).stdout
    assert "in tiles of 64x64" in text and f"ICC ({len(PROFILE)} bytes)" in text and "latents md5" in text
    document = json.loads(cli.ok("inspect", tmp_path / "t.nvc", "--json", "--model", cli.model).stdout)
    assert document["packets"]["tile"]["count"] == 4 and document["frames"] == 1 and document["header"]["tile_size"] == 64
    assert document["attachments"] == [{"kind": "ICC", "bytes": len(PROFILE)}]
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    lines = cli.ok("inspect", tmp_path / "t.nvc", "--packets", "--model", cli.model).stdout.splitlines()
    assert sum(" tile " in line and "contextual=" in line for line in lines) == 4


@pytest.mark.parametrize(("size", "expected"), [(5, (3, 5)), (20, (12, 20)), (500, (HEIGHT, WIDTH))])
def test_thumbnails(cli, photo_stream, tmp_path, size, expected):
    cli.decode(photo_stream, "-o", tmp_path / "t.png", "--thumbnail", size)
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == expected and image.info["icc_profile"] == PROFILE


@pytest.fixture
def folder(tmp_path):
    """Four pictures, one of them broken, one in a folder below, and a text."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.bmp", "sub/c.webp"):
        picture(16, 16).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:60])
    (tmp_path / "in" / "text.txt").write_text("no picture")
    return tmp_path


def names(path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_a_folder_there_and_back(cli, folder):
    result = cli("encode", folder / "in", "-o", folder / "out", "--recursive", "--model", cli.model, "--workers", 2)
    assert result.exit_code == 3
    assert names(folder / "out") == ["a.nvc", "b.nvc", "sub/c.nvc"]
    bad, summary = (line for line in result.stderr.splitlines() if "converted" not in line)
    assert "bad.png" in bad and summary.startswith("3 files") and "0 skipped, 1 failed" in summary and "bits/pixel" in summary
    before = (folder / "out" / "a.nvc").read_bytes()
    again = cli("encode", folder / "in", "-o", folder / "out", "--skip-existing", "--model", cli.model)
    assert "2 skipped, 1 failed" in again.stderr and (folder / "out" / "a.nvc").read_bytes() == before
    alone = cli("encode", folder / "in" / "a.png", "-o", folder / "one.nvc", "--model", cli.model)
    assert alone.exit_code == 0 and (folder / "one.nvc").read_bytes() == before
    (folder / "out" / "broken.nvc").write_bytes(before[:50])
    (folder / "out" / "a.nvc").rename(folder / "out" / "z.nvc")
    back = cli("decode", folder / "out", "-o", folder / "back", "--recursive", "--format", "webp", "--model", cli.model)
    assert back.exit_code == 5 and names(folder / "back") == ["b.webp", "sub/c.webp", "z.webp"]
    assert "broken.nvc" in back.stderr and "3 files" in back.stderr


def test_without_force_nothing_is_overwritten(cli, folder):
    cli.ok("encode", folder / "in" / "a.png", folder / "in" / "b.bmp", "-o", folder / "out", "--model", cli.model)
    again = cli("encode", folder / "in" / "a.png", folder / "in" / "b.bmp", "-o", folder / "out", "--model", cli.model)
    assert again.exit_code == 4 and again.stderr.count("exists already") == 2
    cli.ok("encode", folder / "in" / "a.png", folder / "in" / "b.bmp", "-o", folder / "out", "--model", cli.model, "--force")


def test_two_files_of_one_name_are_told(tmp_path):
    (tmp_path / "x.png").touch()
    tasks = collect([str(tmp_path / "x.png"), str(tmp_path / "x.jpg")], str(tmp_path / "out"), False, (), ".nvc")
    batch = Batch(Talk(quiet=True), "encode", False, False)
    assert batch.admit(tasks) == tasks[:1] and batch.code == OutputError.exit_code


def test_a_batch_leaves_nothing_half_written(tmp_path):
    batch = Batch(Talk(quiet=True), "encode", False, False)
    task = Task(tmp_path / "a", tmp_path / "out" / "b")

    def work(task: Task):
        with batch.output(task.target) as file:
            file.write(b"begun")
            raise KeyError("no error of ours")

    batch.run([task], work, 1)
    assert names(tmp_path) == [] and batch.code == 70 and "KeyError" in batch.outcomes[0].error

    opened = batch.output(task.target)

    def interrupted(task: Task):
        opened.__enter__().write(b"begun")
        assert names(tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run([task], interrupted, 1)
    assert names(tmp_path) == []


def test_what_makes_no_sense_is_refused(cli, folder, photo_stream, stream, y4m):
    with pytest.raises(UsageError):
        collect(["-", "a"], str(folder), False, (), ".nvc")
    with pytest.raises(OutputError):
        collect(["a"], str(folder / "in" / "a.png"), False, (), ".nvc")
    with pytest.raises(InputError):
        collect([str(folder / "in")], str(folder), False, (".xyz",), ".nvc")
    for arguments in (
        ("decode", photo_stream, "--thumbnail", 5, "--md5"),
        ("decode", photo_stream, "-o", folder / "x.yuv", "--thumbnail", 5),
        ("decode", stream, "-o", folder / "x.png", "--thumbnail", 5),
        ("decode", photo_stream, "-o", folder / "x.jpg", "--lossless"),
        ("decode", photo_stream, photo_stream, "--md5"),
        ("encode", folder / "in", "-o", folder / "out", "--frames", "0:1"),
        ("encode", y4m, "-o", folder / "v.nvc", "--chroma", "444"),
    ):
        result = cli(*arguments, "--model", cli.model)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    assert not (folder / "x.jpg").exists() and not (folder / "x.png").exists()
