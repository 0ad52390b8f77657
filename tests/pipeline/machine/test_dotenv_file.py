"""What is taken from a `.env` file, as a process finds it in its working directory."""

import os

import pytest

from ragcun_cli.pipeline.machine.dotenv_file import read_dotenv

NAMES = ("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "WANDB_API_KEY", "RAGCUN_WORKSPACE", "PATH2")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Call it with the text of a `.env` file for the variables that it sets."""

    def found(text):
        before = {name: os.environ.pop(name, None) for name in NAMES}
        (tmp_path / ".env").write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            read_dotenv(tmp_path / ".env")
            return {name: os.environ.pop(name) for name in NAMES if name in os.environ}
        finally:
            os.environ.update({k: v for k, v in before.items() if v is not None})

    return found


def test_names_on_the_list_are_set_and_others_are_not(read):
    text = "HF_TOKEN=a\nPATH2=/x\nRAGCUN_WORKSPACE=ws\nLD_PRELOAD=x\nWANDB_API_KEY=w\n"
    assert read(text) == {"HF_TOKEN": "a", "RAGCUN_WORKSPACE": "ws", "WANDB_API_KEY": "w"}
    assert "LD_PRELOAD" not in os.environ


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("export HF_TOKEN=a", "a"),
        ("HF_TOKEN = 'a # b'  # c", "a # b"),
        ('HF_TOKEN="a\\tb"', "a\tb"),
        ("HF_TOKEN=a#b # c", "a#b"),
        ("# HF_TOKEN=b\n\n  HF_TOKEN=a", "a"),
        ("HF_TOKEN=", ""),
    ],
)
def test_quotes_comments_and_export_are_as_usual(read, line, value):
    assert read(line) == {"HF_TOKEN": value}


def test_a_name_alone_sets_nothing(read):
    assert read("HF_TOKEN\nHF_HOME=/x") == {"HF_HOME": "/x"}


def test_a_variable_that_is_set_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "")
    (tmp_path / ".env").write_text("HF_ENDPOINT=http://x")
    read_dotenv(tmp_path / ".env")
    assert os.environ["HF_ENDPOINT"] == ""


def test_a_line_that_cannot_be_read_is_said_by_its_number(read, caplog):
    assert read('HF_HOME=/x\nhush "hush=\nHF_TOKEN=a\n') == {"HF_HOME": "/x", "HF_TOKEN": "a"}
    assert "line 2" in caplog.text
    assert "hush" not in caplog.text


def test_bytes_that_are_no_text_spoil_their_own_value_alone(read):
    assert read(b"HF_TOKEN=\xff\xfe\nHF_HOME=/x")["HF_HOME"] == "/x"


def test_no_file_and_a_folder_of_that_name_set_nothing(tmp_path):
    before = dict(os.environ)
    read_dotenv(tmp_path / "none")
    read_dotenv(tmp_path)
    assert dict(os.environ) == before
