import json

from ragcun_cli.pipeline.stages.runs import Run, runs_on_disk
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import RunProfile


def test_a_run_file_with_retired_keys_is_read(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "data")
    run = Run(RunProfile(name="mine"), 1, None, workspace)
    content = json.loads(run.description())
    content["profile"]["isotropy"] = {"texts": "queries", "max_texts": 20_000}
    run.folder.mkdir(parents=True)
    (run.folder / "run.json").write_text(json.dumps(content))
    assert [found.folder for found in runs_on_disk(workspace)] == [run.folder]
