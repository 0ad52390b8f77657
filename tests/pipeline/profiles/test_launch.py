from pathlib import Path

import pytest

from ragcun_cli.pipeline.profiles.load import launch_config
from ragcun_cli.spec.errors import ProfileError
from ragcun_cli.spec.launch_config import LaunchConfig


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "users"))
    (tmp_path / "users/ragcun").mkdir(parents=True)
    return tmp_path / "users/ragcun"


def refusal(text, **own):
    Path("launch.toml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        launch_config(LaunchConfig(**own))
    assert caught.value.hint == "cat launch.toml"
    return str(caught.value)


def test_without_a_file_a_plan_says_all():
    assert launch_config(LaunchConfig(partition="gpu")) == LaunchConfig(partition="gpu")


def test_a_plan_wins_key_by_key_even_with_what_is_the_default():
    Path("launch.toml").write_text(
        'partition = "gpu"\ngpus_per_run = 2\nextra = ["--exclusive"]\nsignal_seconds = 60\n'
    )
    own = LaunchConfig(partition=None, gpus_per_run=1, time="8:00:00")
    assert launch_config(own) == LaunchConfig(
        gpus_per_run=1, time="8:00:00", extra=("--exclusive",), signal_seconds=60
    )


def test_the_file_here_is_read_instead_of_the_users(here, monkeypatch):
    (here / "launch.toml").write_text('partition = "users"\nqos = "long"\n')
    assert launch_config(LaunchConfig()) == LaunchConfig(partition="users", qos="long")
    Path("launch.toml").write_text('partition = "here"\n')
    assert launch_config(LaunchConfig()) == LaunchConfig(partition="here")
    Path("launch.toml").unlink()
    (here.parent / ".config/ragcun").mkdir(parents=True)
    (here.parent / ".config/ragcun/launch.toml").write_text('partition = "home"\n')
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(here.parent))
    assert launch_config(LaunchConfig()) == LaunchConfig(partition="home")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('partiton = "gpu"', "partiton: there is no such key; did you mean 'partition'?"),
        ('partition = "a b"', "partition: one word is needed, of letters, digits and"),
        ("time = 60", "time: a text is needed, in quotes (got 60)"),
        ('time = "two hours"', "time: a time is minutes, H:M:S or D-H:M:S, as 1-12:00:00"),
        ('extra = ["exclusive"]', "extra.0: one option of sbatch is needed, as --exclusive"),
        ('extra = ["--a\\nrm -r x"]', "extra.0: one option of sbatch is needed"),
        ("gpus_per_run = -1", "gpus_per_run: it has to be 0 or more (got -1)"),
        ("[launch]\nqos = 'x'", "launch: there is no such key"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_as_of_a_profile(text, said):
    assert refusal(text).startswith(f"launch.toml is not valid:\n  {said}")


def test_a_file_that_is_no_toml_is_named():
    Path("launch.toml").write_text("time = 1:00")
    with pytest.raises(ProfileError, match=r"^launch\.toml is not TOML"):
        launch_config(LaunchConfig())


def test_what_is_wrong_only_together_names_both_places():
    said = refusal('time = "4:00"\nsignal_seconds = 60', signal_seconds=300)
    assert said.startswith("launch.toml with the plan's [launch] is not valid:")
    assert "time 4:00 is no longer than signal_seconds 300" in said


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("5", 300), ("5:01", 301), ("1:00:05", 3605), ("1-0", 86_400), ("1-2:3", 93_780)],
)
def test_a_time_limit_is_read_as_slurm_reads_it(time, seconds):
    assert LaunchConfig(time=time, signal_seconds=seconds - 1).time == time
    with pytest.raises(ValueError, match="would be stopped as it begins"):
        LaunchConfig(time=time, signal_seconds=seconds)


def test_a_time_without_end_is_long_enough():
    assert LaunchConfig(time="UNLIMITED").time == "UNLIMITED"
