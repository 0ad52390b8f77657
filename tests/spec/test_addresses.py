import logging

import pytest

from ragcun_cli.spec.addresses import (
    HidingRecord,
    file_address,
    shown,
    without_home,
    without_secrets,
)
from ragcun_cli.spec.errors import DataError


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://me:word@host/file?token=abc", "https://***@host/file?token=***"),
        ("https://word@host:80/file?abc&d=e", "https://***@host:80/file?***&d=***"),
        ("http://me:p?w@h/", "http://***@h/"),
        ("http://me:p/w@x@h/f", "http://***@h/f"),
        ("http://me:w@[::1]:8/f", "http://***@[::1]:8/f"),
        ("https://h/f?user=me@x.org&key=a=b", "https://h/f?user=***&key=***"),
        ("https://h/f#access=abc", "https://h/f#access=***"),
        ("//me:word@h/f", "//***@h/f"),
        ("with url: /f?key=abc (Caused by x)", "with url: /f?key=*** (Caused by x)"),
        ("'https://h/f?key=abc': no, https://a:b@h.", "'https://h/f?key=***': no, https://***@h."),
    ],
)
def test_what_may_be_secret_in_an_address_is_hidden(text, hidden):
    assert shown(text) == hidden
    assert shown(hidden) == hidden
    error = DataError(f"look: {text}", hint=f"curl {text}")
    assert (str(error), error.hint) == (f"look: {hidden}", f"curl {hidden}")
    assert HidingRecord("x", 30, "", 1, "at %s", (text,), None).getMessage() == f"at {hidden}"


@pytest.mark.parametrize(
    "text",
    ["https://host:8000/a/b@2/file.zip", "what?no & a@b", "mteb/scifact@abc: no", "a//b@c?d=e"],
)
def test_what_is_not_secret_or_no_address_stays(text):
    assert shown(text) == text


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("http://h/a/", "http://h/a/f.zip"),
        ("http://h", "http://h/f.zip"),
        ("http://me:w@h/a?token=1&b=/", "http://me:w@h/a/f.zip?token=1&b=/"),
        ("http://h/a/#part", "http://h/a/f.zip#part"),
        ("me:word@h/a?b", "//me:word@h/a/f.zip?b"),
        ("file:///a b", "file:///a%20b/f.zip"),
    ],
)
def test_a_file_is_joined_to_the_path_of_its_folder(folder, file):
    assert file_address(folder, "f.zip") == file


def test_a_record_is_what_libraries_log_with(ragcun, caplog):
    ragcun("data", "get", "no-such-set")
    logging.getLogger("some.library").warning("asking %s again", "http://me:word@h/?t=abc")
    assert caplog.messages == ["asking http://***@h/?t=*** again"]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (
            "ragcun data get x --mirror 'https://u:p@h/x?token=abc'",
            "--mirror 'https://***@h/x?token=***'",
        ),
        ("ragcun data get x --mirror me:word@h/beir", "--mirror ***@h/beir"),
        ("ragcun x --hub-token abc -p smoke", "--hub-token *** -p smoke"),
        ("ragcun x --set a.token=abc", "--set a.token=***"),
        ("ragcun x --set a=hf_abcdef", "--set a=***"),
        ("ragcun x --name value5of6wandb", "--name ***"),
        (
            "ragcun eval --model org/name@main -d mteb:NanoNQRetrieval",
            "--model org/name@main -d mteb:NanoNQRetrieval",
        ),
    ],
)
def test_a_command_is_kept_without_what_may_be_secret(command, kept, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "value5of6wandb")
    assert without_secrets(command).endswith(kept)


def test_the_home_folder_is_written_as_a_tilde_and_its_likes_are_not(monkeypatch, tmp_path):
    home = tmp_path / "u"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    value = {
        "in it": [f"{home}/m", f"{tmp_path}/link", f"--w={tmp_path}/link/ws 'x'"],
        "not in it": [f"{home}2/m", f"{home}.old", f"/mnt{home}", "~/m", 3, None, 0.5],
    }
    assert without_home(value)["in it"] == ["~/m", "~", "--w=~/ws 'x'"]
    assert without_home(value)["not in it"] == value["not in it"]
    monkeypatch.setenv("HOME", "/")
    assert without_home(value) == value
