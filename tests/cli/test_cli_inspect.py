"""What ``inspect``, ``models`` and ``demo`` say."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import av
import pytest
from cli_clips import FRAMES, HEIGHT, WIDTH

from neuralcodec.codecs.registry import by_name
from neuralcodec.core.resources import demo_clip


@pytest.fixture(scope="module")
def document(cli, sounding_stream) -> dict:
    return json.loads(cli.ok("inspect", sounding_stream, "--json", "--model", cli.model).stdout)


def test_bits_add_up_to_the_file(document, sounding_stream):
    size = sounding_stream.stat().st_size
    assert document["bytes"] == size
    assert sum(document["bits"].values()) == pytest.approx(8 * size, abs=0.1)
    assert sum(p["bytes"] for p in document["packets"].values()) + document["header"]["bytes"] == size
    assert abs(document["bits"]["rounding"]) <= 8 * document["frames"]
    assert document["bits"]["side streams"] > 0
    assert {"motion", "contextual", "motion hyper", "contextual hyper", "framing", "header and index"} <= set(
        document["bits"]
    )


def test_the_document_describes_the_stream(document, cli, sounding_stream):
    header = document["header"]
    assert (header["width"], header["height"], document["frames"]) == (WIDTH, HEIGHT, 20)
    assert (header["level"], header["levels"], header["quality"], header["gop_size"]) == (1, 3, 50.0, 8)
    assert document["seconds"] == pytest.approx(0.8)
    assert [(g["first_frame"], g["frames"]) for g in document["gops"]] == [(0, 8), (8, 8), (16, 4)]
    assert [s["codec"] for s in header["side_streams"]] == ["aac"]
    assert document["model"] == {"name": "tiny", "identity": by_name(cli.model).identity.hex(), "installed": True}
    assert document["width_tables"] == [list(t) for t in by_name(cli.model).widths]
    assert document["packets"]["I frame"]["count"] == 3 and document["packets"]["P frame"]["count"] == 17
    assert set(document["skipped_percent"]) == {"I contextual", "P motion", "P contextual"}
    assert all(0 <= p <= 100 for p in document["skipped_percent"].values())
    assert header["hypotheses"] is True and sum(document["predicted_percent"].values()) == pytest.approx(100, abs=0.01)
    assert document["damage"] == [] and document["index"] is True


def test_packets_are_objects_that_add_up(cli, document, sounding_stream):
    lines = cli.ok("inspect", sounding_stream, "--packets", "--json", "--model", cli.model).stdout.splitlines()
    packets = [json.loads(line) for line in lines]
    assert sum(p["bytes"] for p in packets) + document["header"]["bytes"] == document["bytes"]
    frames = [p for p in packets if p["kind"].endswith("frame")]
    assert len(frames) == 20
    for packet in frames:
        assert abs(sum(packet["bits"].values()) - 8 * (packet["bytes"] - packet["framing"])) <= 8
    assert packets[0]["offset"] == document["header"]["bytes"]
    assert all(a["offset"] + a["bytes"] == b["offset"] for a, b in pairwise(packets))


def test_the_text_names_what_matters(cli, stream):
    text = cli.ok("inspect", stream, "--model", cli.model).stdout
    for word in (
        f"{WIDTH}x{HEIGHT}",
        "level 1*",
        "model tiny",
        "contextual hyper",
        "P motion",
        "groups of pictures",
        "framing",
    ):
        assert word in text
    lines = cli.ok("inspect", stream, "--packets", "--model", cli.model).stdout.splitlines()
    assert sum(" frame " in line for line in lines) == FRAMES


def test_latents_have_an_md5_of_their_own(cli, y4m, stream, tmp_path):
    def digest(path) -> str:
        return cli.ok("inspect", path, "--latents-md5", "--model", cli.model).stdout.split()[0]

    assert digest(stream) == json.loads(cli.ok("inspect", stream, "--json", "--model", cli.model).stdout)["latents_md5"]
    cli.encode(y4m, tmp_path / "other.nvc", "--gop", 3, "--quality", 49.5)
    assert digest(tmp_path / "other.nvc") != digest(stream)


def test_without_its_model_a_stream_still_has_container_facts(cli, stream):
    result = cli.ok("inspect", stream, "--json")
    document = json.loads(result.stdout)
    assert len(result.stderr.splitlines()) == 1 and "container" in result.stderr
    assert document["model"]["installed"] is False and document["latents_md5"] is None
    assert document["frames"] == FRAMES and document["bits"]["unparsed frames"] > 0
    assert sum(document["bits"].values()) == pytest.approx(8 * document["bytes"], abs=0.1)
    assert cli("inspect", stream, "--latents-md5").exit_code == 7


def test_inspect_reads_a_pipe(cli, stream):
    piped = json.loads(cli.ok("inspect", "-", "--json", "--model", cli.model, stdin=stream.read_bytes()).stdout)
    named = json.loads(cli.ok("inspect", stream, "--json", "--model", cli.model).stdout)
    assert {**piped, "file": ""} == {**named, "file": ""}


def test_models_describe_levels_parameters_and_card(cli, tmp_path):
    path = tmp_path / "tiny.safetensors"
    shutil.copy(cli.model, path)
    card = {"training_data": [{"name": "noise", "licence": "CC0"}], "minutes": 3}
    path.with_suffix(".json").write_text(json.dumps(card))
    path.with_suffix(".md").write_text("Knows nothing.\n")
    (one,) = json.loads(cli.ok("models", "--json", "--model", path).stdout)
    assert one["identity"] == by_name(cli.model).identity.hex() and one["key"] == by_name(cli.model).key.hex()
    assert one["card"] == {**card, "prose": "Knows nothing.\n"}
    assert [level["level"] for level in one["levels"]] == [1, 2, 3]
    costs = [level["decoder_kmac_per_pixel"]["P"] for level in one["levels"]]
    assert costs[0] > costs[1] > costs[2] > 0
    assert one["parameters"] == sum(part["parameters"] for part in one["levels"][0]["parts"])
    text = cli.ok("models", "--model", path).stdout
    for word in ("tiny", one["key"], "contextual prior (exact)", "CC0", "Knows nothing.", "level 3"):
        assert word in text


def test_models_list_what_is_installed(cli):
    assert isinstance(json.loads(cli.ok("models", "--json").stdout), list)


def test_demo_writes_streams_videos_and_a_picture(cli, tmp_path):
    text = cli.ok("demo", "--model", cli.model, "--frames", 2, "--out", tmp_path / "out").stdout
    for word in ("PSNR Y", "bits/pixel", "kMAC", "side-by-side.png"):
        assert word in text
    names = {f"frog-level{n}.{ending}" for n in (1, 2, 3) for ending in ("nvc", "mp4")} | {"side-by-side.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    rows = [line.split() for line in text.splitlines() if line.split()[:1] and line.split()[0] in "123"]
    assert [int(row[1]) for row in rows] == [
        (tmp_path / "out" / f"frog-level{n}.nvc").stat().st_size for n in (1, 2, 3)
    ]
    with av.open(str(tmp_path / "out" / "frog-level2.mp4")) as container, av.open(str(demo_clip())) as original:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (360, 240)
        assert container.streams.audio[0].codec.name == original.streams.audio[0].codec.name == "aac"
