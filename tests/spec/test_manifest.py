import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcun_cli.spec.errors import NewerFormatError, WorkspaceError
from ragcun_cli.spec.manifest import (
    Artifact,
    Manifest,
    StageRecord,
    digest,
    file_digest,
    replaced,
    write_atomically,
)

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "model" / "weights"
    file.parent.mkdir()
    file.write_bytes(b"abc")
    os.utime(file, ns=(1_000, 1_000))
    return file


@pytest.fixture
def artifact(file, tmp_path):
    return Artifact.of(file, root=tmp_path)


def a_record(**changes):
    values = {
        "recipe": "r",
        "outputs": (
            Artifact(path="a/b", sha256="0" * 64, size=3, mtime_ns=1_700_000_000_123_456_789),
        ),
        "seconds": 1.5,
        "finished": "2025-01-31T12:00:00+00:00",
        "device": "a processor, 2 cores",
        "versions": {"python": "3.11.2"},
        "commit": None,
        "details": {"rows": 3, "rate": 0.1, "note": "ü"},
    }
    return StageRecord(**{**values, **changes})


def test_an_artifact_holds_the_relative_path_digest_size_and_time(artifact):
    assert artifact == Artifact(path="model/weights", sha256=SHA256_OF_ABC, size=3, mtime_ns=1_000)


def test_a_file_that_nobody_touched_is_intact(artifact, tmp_path):
    assert artifact.is_intact(tmp_path)
    assert artifact.is_intact(tmp_path, verify=True)


def test_a_file_with_a_new_time_and_the_same_bytes_is_intact(artifact, file, tmp_path):
    os.utime(file, ns=(2_000, 2_000))
    assert artifact.is_intact(tmp_path)


def test_a_file_with_a_new_time_and_other_bytes_is_not_intact(artifact, file, tmp_path):
    file.write_bytes(b"abd")
    os.utime(file, ns=(2_000, 2_000))
    assert not artifact.is_intact(tmp_path)


def test_a_file_of_another_size_is_not_intact(artifact, file, tmp_path):
    file.write_bytes(b"abcd")
    os.utime(file, ns=(1_000, 1_000))
    assert not artifact.is_intact(tmp_path)


def test_a_missing_file_is_not_intact(artifact, file, tmp_path):
    file.unlink()
    assert not artifact.is_intact(tmp_path)
    assert not artifact.is_intact(tmp_path / "elsewhere", verify=True)


def test_only_verify_sees_bytes_that_changed_behind_a_time_put_back(artifact, file, tmp_path):
    file.write_bytes(b"abd")
    os.utime(file, ns=(1_000, 1_000))
    assert artifact.is_intact(tmp_path)
    assert not artifact.is_intact(tmp_path, verify=True)


def test_a_manifest_comes_back_as_it_was_saved(tmp_path):
    manifest = (
        Manifest().with_stage("train", a_record()).with_stage("eval/nq", a_record(commit="c"))
    )
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == manifest


def test_an_absent_manifest_is_an_empty_one(tmp_path):
    assert Manifest.load(tmp_path / "manifest.json") == Manifest(stages={})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"stages": {"train": {}}}',
        b'{"stages": {}, "colour": "blue"}',
        b"[" * 100_000,
        b'{"schema_version": 0}',
        b'{"schema_version": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_broken_manifest_is_named_with_what_to_do(tmp_path, content):
    file = tmp_path / "manifest.json"
    file.write_bytes(content)
    with pytest.raises(WorkspaceError, match="cannot be read as a manifest") as caught:
        Manifest.load(file)
    assert str(file) in str(caught.value)
    assert caught.value.hint == f"move {file} away; the stages it recorded will run again"
    assert caught.value.exit_code == 2


def test_a_manifest_that_is_a_folder_is_named_too(tmp_path):
    with pytest.raises(WorkspaceError, match="cannot be read as a manifest"):
        Manifest.load(tmp_path)


def test_putting_or_dropping_a_stage_leaves_the_others_and_the_original_alone():
    first = Manifest().with_stage("train", a_record())
    both = first.with_stage("data", a_record(recipe="other"))
    assert list(first.stages) == ["train"]
    assert list(both.stages) == ["data", "train"]
    assert both.with_stage("data", None) == first
    assert both.with_stage("absent", None) == both


def test_the_digest_of_a_file_is_its_sha256(file):
    assert file_digest(file) == SHA256_OF_ABC


def test_the_digest_of_a_value_is_the_sha256_of_its_compact_sorted_json():
    # printf '{"a":[1,2.5],"b":null}' | sha256sum
    expected = "f66b2c50ccae61e3f2445d2439f42efc245581b18ed184ce5d3c22fb58eed9c4"
    assert digest({"b": None, "a": [1, 2.5]}) == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def turned_round(value):
    if isinstance(value, dict):
        return {key: turned_round(value[key]) for key in reversed(value)}
    return [turned_round(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_the_order_of_keys_does_not_change_a_digest(value):
    assert digest(turned_round(value)) == digest(value)


def test_the_order_of_a_list_the_type_and_the_value_change_a_digest():
    values = [[1, 2], [2, 1], ["1", 2], [1, 2, None], [True, 2], {"1": 2}]
    assert len({digest(value) for value in values}) == len(values)


def test_what_is_no_json_value_has_no_digest():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("nan"))


def test_an_atomic_write_makes_the_folder_and_leaves_no_draft(tmp_path):
    file = tmp_path / "new" / "folder" / "table.md"
    write_atomically(file, "first ü\n")
    write_atomically(file, "second\n")
    assert file.read_text(encoding="utf-8") == "second\n"
    assert [path.name for path in file.parent.iterdir()] == ["table.md"]


def test_an_atomic_write_that_fails_leaves_the_old_text(tmp_path):
    file = tmp_path / "table.md"
    write_atomically(file, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "new \ud800\n")
    assert file.read_text(encoding="utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [file]


def replace(file, content, *, error=None):
    with replaced(file) as stream:
        stream.write(content)
        stream.flush()
        assert (file.parent / f".{file.name}.draft").read_bytes() == content
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_a_file_whose_new_bytes_fail_is_left_and_no_draft_beside(tmp_path, error):
    file = tmp_path / "new" / "hits.npz"
    with pytest.raises(type(error)):
        replace(file, b"half", error=error)
    assert list(file.parent.iterdir()) == []
    replace(file, b"whole")
    with pytest.raises(type(error)):
        replace(file, b"half", error=error)
    assert file.read_bytes() == b"whole"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"ndcg": 0.25', '"ndcg": 0.95'),
        ('"train": {', '"trail": {'),
        ('"seconds": 1.5', '"seconds": 1.4'),
        ('"device": "cpu"', '"device": "gpu"'),
    ],
)
def test_a_record_that_was_changed_is_refused(tmp_path, old, new):
    file = tmp_path / "manifest.json"
    record = a_record(details={"ndcg": 0.25}, seconds=1.5, device="cpu")
    Manifest().with_stage("train", record).save(file)
    assert Manifest.load(file).stages["train"].details == {"ndcg": 0.25}
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(WorkspaceError, match="was changed after it was written") as caught:
        Manifest.load(file)
    assert caught.value.exit_code == 2


def test_a_record_without_a_seal_is_read_as_it_stands(tmp_path):
    file = tmp_path / "manifest.json"
    Manifest(stages={"train": a_record()}).save(file)
    assert Manifest.load(file).stages["train"].seal is None


def test_a_manifest_of_a_later_version_is_refused(tmp_path):
    file = tmp_path / "manifest.json"
    file.write_text('{"schema_version": 3, "stages": {}}')
    with pytest.raises(NewerFormatError, match="its form is number 3"):
        Manifest.load(file)


@given(VALUES)
def test_details_of_any_kind_keep_the_seal_of_their_record_through_a_file(value):
    sealed = Manifest().with_stage("eval", a_record(details={"value": value})).stages["eval"]
    text = sealed.model_dump_json()
    again = StageRecord.model_validate_json(text)
    assert again == again.sealed("eval")
    assert again.sealed("train").seal != again.seal


def test_a_manifest_of_the_first_form_is_read_its_seals_hold_and_it_is_written_in_the_second(
    tmp_path,
):
    """The seal is computed here as that version did: over all fields that a record had then."""
    file, record = tmp_path / "manifest.json", json.loads(a_record().model_dump_json())
    for name in ("provenance", "seal"):
        del record[name]
    text = json.dumps({"train": record}, sort_keys=True, separators=(",", ":"))
    record["seal"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps({"schema_version": 1, "stages": {"train": record}}))
    first = Manifest.load(file)
    assert first.stages["train"].provenance == {}
    first.with_stage("eval", a_record(provenance={"host": "h"})).save(file)
    second = Manifest.load(file)
    assert second.schema_version == 2
    assert second.stages["train"] == first.stages["train"]
    assert second.stages["eval"].provenance == {"host": "h"}
    file.write_text(file.read_text().replace('"host": "h"', '"host": "i"'))
    with pytest.raises(WorkspaceError, match="was changed after it was written"):
        Manifest.load(file)
