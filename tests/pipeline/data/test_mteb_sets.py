"""Data sets `mteb:TASK`. What needs mteb itself is marked `system`."""

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
from datasets import Dataset

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring.mteb import load_task, read_task, task_action
from ragcun_cli.pipeline.data.bring.mteb_rows import store_mteb
from ragcun_cli.pipeline.data.checks.verify import verify_data
from ragcun_cli.pipeline.data.mteb_names import MtebTask, recorded_task
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sources import MtebSet
from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import Workspace, dataset_folder
from ragcun_cli.spec.profile import RunProfile

CORPUS = [
    {"id": "d2", "title": "Two", "text": "second"},
    {"id": "d1", "title": "", "text": "first"},
    {"id": "d3", "title": None, "text": "third"},
]
QUERIES = [{"id": "q2", "text": "which?"}, {"id": "q1", "text": "what?"}, {"id": "q9", "text": "?"}]
QRELS = {"q2": {"d3": 2, "d1": 0}, "q1": {"d2": 1}}


class Task:
    """Has what a task of mteb has, and its data at once."""

    ignore_identical_ids = True

    def __init__(self, corpus=CORPUS, queries=QUERIES, qrels=QRELS, top_ranked=None):
        self.metadata = SimpleNamespace(
            name="Some.v2",
            revision="abc",
            dataset={"path": "someone/some", "revision": "abc"},
            hf_subsets_to_langscripts={"default": ["deu-Latn"], "de": ["deu-Latn"]},
            main_score="ndcg_at_10",
            license="cc0-1.0",
        )
        self._held = {
            "corpus": Dataset.from_list(corpus),
            "queries": Dataset.from_list(queries),
            "relevant_docs": qrels,
            "top_ranked": top_ranked,
        }
        self.eval_splits = ["train", "dev"]

    def filter_eval_splits(self, eval_splits):
        self.eval_splits = eval_splits

    def load_data(self):
        self.dataset = {subset: {} for subset in self.hf_subsets}
        for splits in self.dataset.values():
            splits.update(dict.fromkeys(self.eval_splits, self._held))

    def convert_v1_dataset_format_to_v2(self, num_proc):
        assert num_proc is None


def stored(folder, task=None, *, subset="default"):
    found = read_task(task or Task(), subset=subset, split="dev")
    return found, store_mteb(found, folder, progress=Silent())


def test_what_is_stored_is_what_mteb_has(tmp_path):
    found, counts = stored(tmp_path)
    assert found.task == MtebTask("Some.v2", "abc", "dev", "default", ("deu-Latn",))
    assert found.origin == "someone/some@abc"
    assert (counts.passages, counts.queries, counts.judged) == (3, 2, {"test": 2})
    assert counts.notes == ()
    corpus = Corpus.open(tmp_path)
    assert list(corpus.ids) == ["d1", "d2", "d3"]
    assert list(corpus.texts) == ["first", "Two second", "third"]
    assert beir.read_queries(tmp_path) == {"q1": "what?", "q2": "which?"}
    assert beir.read_splits(tmp_path) == {"test": {"q1": {"d2": 1}, "q2": {"d1": 0, "d3": 2}}}


def test_the_order_that_things_come_in_is_without_effect(tmp_path):
    stored(tmp_path / "one")
    turned = Task(CORPUS[::-1], QUERIES[::-1], {q: QRELS[q] for q in reversed(QRELS)})
    stored(tmp_path / "two", turned, subset="de")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_queries_are_renamed_where_mteb_keeps_passages_of_the_same_id(tmp_path):
    same = [{"id": name, "text": "?"} for name in ("d1", "d9")]
    qrels = {"d1": {"d1": 1}, "d9": {"d3": 1}}
    task = Task(queries=same, qrels=qrels)
    stored(tmp_path / "kept", task)
    assert beir.read_queries(tmp_path / "kept").keys() == {"d1", "d9"}
    task.ignore_identical_ids = False
    _, counts = stored(tmp_path / "renamed", task)
    assert beir.read_qrels(tmp_path / "renamed", "test") == {
        "query-d1": {"d1": 1},
        "query-d9": {"d3": 1},
    }
    assert beir.read_queries(tmp_path / "renamed").keys() == {"query-d1", "query-d9"}
    assert "query ids got 'query-' in front" in counts.notes[0]
    other = Task()
    other.ignore_identical_ids = False
    assert stored(tmp_path / "other", other)[1].notes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": [{"id": "q1", "text": ["a", "b"]}]}, "conversations"),
        ({"queries": [{"id": "q1", "text": "a", "instruction": "b"}]}, "instructions"),
        ({"top_ranked": {"q1": ["d1"]}}, "passages chosen for each query"),
    ],
)
def test_what_is_no_search_of_texts_by_texts_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        read_task(Task(**changes), subset="default", split="dev")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrels": {"q1": {"d1": 0.5}}}, "not whole"),
        ({"qrels": QRELS | {"q7": {"d1": 1}}}, "query id 'q7' is not in"),
        ({"qrels": {"q 1": {"d1": 1}}}, "white space"),
        ({"corpus": [{"id": "a b", "text": "x"}]}, "passage 1: id 'a b' has white space"),
        ({"queries": [{"id": "q1", "text": "a"}, {"id": "q1", "text": "b"}]}, "stands twice"),
        ({"queries": [{"id": "q1", "text": " "}], "qrels": {"q1": {"d1": 1}}}, "has no text"),
    ],
)
def test_malformed_data_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        stored(tmp_path, Task(**changes))


def test_a_loader_that_fails_is_told_in_one_line():
    task = Task()
    task.load_data = lambda: (_ for _ in ()).throw(ConnectionError("no host\nmany lines"))
    with pytest.raises(DataError) as caught:
        read_task(task, subset="default", split="dev")
    assert str(caught.value) == "mteb could not load someone/some@abc: no host"
    assert caught.value.hint == "hf download someone/some --repo-type dataset --revision abc"
    task.load_data = lambda: setattr(task, "dataset", {"default": {}})
    with pytest.raises(DataError, match="could not load someone/some@abc: no 'dev' of 'de'"):
        read_task(task, subset="de", split="dev")


def test_names_of_tasks_are_read_and_have_folders():
    assert sources.find("mteb:SciFact") == MtebSet("SciFact")
    assert sources.find_mteb("mteb:Code.v2/c++") == MtebSet("Code.v2", "c++")
    assert MtebSet("Code.v2", "c++").name == "mteb:Code.v2/c++"
    for name in (
        "scifact",
        "mteb",
        "mteb:",
        "mteb:a/b/c",
        "mteb:../x",
        "mteb:a/",
        "MTEB:a",
        "mteb-a",
    ):
        assert sources.find_mteb(name) is None
    assert sources.is_made_here("mteb:SciFact")
    assert (
        sources.reported_split("mteb:SciFact") == sources.reported_split("mteb-scifact") == "test"
    )
    assert dataset_folder("mteb:SciFact") == "mteb-scifact"
    assert dataset_folder("mteb:Code.v2/c++") == "mteb-code-v2--cpp"
    assert dataset_folder("scifact") == "scifact"


def test_a_profile_may_test_on_a_task_and_not_train_on_it():
    config = EvaluationConfig(datasets=("mteb:SciFact", "scifact", "mteb:Code/c++"))
    assert config.datasets[0] == "mteb:SciFact"
    for names in (("mteb:SciFact", "mteb-scifact"), ("mteb:",), ("mteb:a/../b",), ("x:y",)):
        with pytest.raises(ValueError, match=r"named twice|match pattern"):
            EvaluationConfig(datasets=names)
    with pytest.raises(ValueError, match="match pattern"):
        RunProfile(name="a", data={"train": "mteb:SciFact"})
    with pytest.raises(ValueError, match="choose on test queries"):
        RunProfile(
            name="a",
            evaluation={"datasets": ["mteb:SciFact"]},
            training={"selection": {"queries": 5, "dataset": "mteb-scifact", "split": "test"}},
        )


def test_without_mteb_the_extra_is_named(tmp_path, ragcun, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: (name != "mteb" and find(name)) or None
    )
    with pytest.raises(DataError, match="not installed") as caught:
        task_action("mteb:SciFact")(tmp_path, Silent())
    assert caught.value.hint == "pip install '.[mteb]', in the clone of ragcun"
    outcome = ragcun("data", "get", "mteb:SciFact", "-w", tmp_path)
    assert outcome.code == 2
    assert "pip install '.[mteb]', in the clone" in outcome.err


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A workspace with a set of mteb in it, brought by the task of that set.

    In the place of mteb stands a package that has this one task.
    """
    found = Task()
    found.is_aggregate = False
    vars(found.metadata).update(type="Retrieval", modalities=["text"])
    vars(found.metadata).update(hf_subsets=["default"], eval_splits=["dev"])
    package, abstasks = ModuleType("mteb"), ModuleType("mteb.abstasks.retrieval")
    package.__spec__ = ModuleSpec("mteb", None)
    package.get_task = {"Some.v2": found}.__getitem__
    abstasks.AbsTaskRetrieval = Task
    for module in (package, abstasks):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    workspace = Workspace(tmp_path, tmp_path)
    task = DataTasks(workspace).task("mteb:Some.v2")
    assert Runner(Silent()).run(task)
    return workspace


def test_a_set_that_was_brought_stays_current_by_both_of_its_names(brought):
    for name in ("mteb:Some.v2", "mteb-some-v2"):
        task = DataTasks(brought).task(name)
        assert task.folder == brought.data / "datasets/mteb-some-v2"
        assert Runner(Silent()).is_current(task)
        assert DataTasks(brought).counts(name) == (3, 2)
        assert not DataTasks(brought).is_absent(name)
        assert verify_data(task, Runner(Silent())).passages == 3
    assert not Runner(Silent()).is_current(DataTasks(brought).task("mteb:Some.V2"))


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"query": "who?", "positive": "me"}\n{"query": "what?", "positive": "it"}\n')
    return file


def contents(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder): file.read_bytes() for file in files}


@pytest.mark.parametrize("command", [("data", "get"), ("eval", "--force", "--model")])
def test_a_set_that_was_imported_is_not_overwritten_by_a_task_of_its_folder(
    ragcun, brought, table, tmp_path, command, tiny
):
    """The task is brought in another workspace first, to see that it can be."""
    words = ("-w", tmp_path / "ws")
    add = ("data", "import", table, "--test-queries", "1", "--name", "mteb-some-v2", *words)
    assert ragcun(*add).code == 0
    folder = tmp_path / "ws/data/datasets/mteb-some-v2"
    before = contents(folder)
    command = (*command, tiny, "--datasets") if command[0] == "eval" else command
    outcome = ragcun(*command, "mteb:Some.v2", *words)
    assert outcome.code == 2
    said = f"'mteb:Some.v2' would overwrite a set that was imported, which lies in {folder}"
    assert said in outcome.err.replace("\n", " ")
    assert contents(folder) == before
    assert ragcun("data", "verify", *words).code == 0
    assert ragcun("data", "get", "mteb:Some.v2", "--force", *words).code == 0
    assert contents(folder) != before
    assert ragcun("data", "get", "mteb:Some.v2", *words).code == 0
    outcome = ragcun(*add)
    assert (outcome.code, "a data set 'mteb-some-v2' already" in outcome.err) == (2, True)


def test_two_tasks_of_one_folder_are_an_error_that_names_both(ragcun, brought, tmp_path):
    both = ragcun("data", "get", "mteb:Some.v2", "mteb:Some-v2", "-w", tmp_path / "ws")
    assert both.code == 2
    assert "'mteb:Some.v2' and 'mteb:Some-v2'" in both.err
    assert ragcun("data", "get", "mteb:Some.v2", "-w", tmp_path / "ws").code == 0
    other = ragcun("data", "get", "mteb:Some-v2", "-w", tmp_path / "ws")
    assert other.code == 2
    assert "'mteb:Some-v2' would overwrite mteb:Some.v2, which lies in" in other.err


def test_the_record_says_what_mteb_calls_it(brought):
    manifest = json.loads((brought.dataset("mteb:Some.v2") / "manifest.json").read_text())
    details = manifest["stages"]["data"]["details"]
    assert details["origin"] == "someone/some@abc"
    assert details["about"] == "task Some.v2 of mteb"
    assert recorded_task(details) == MtebTask("Some.v2", "abc", "dev", "default", ("deu-Latn",))


def test_a_set_that_is_not_here_is_asked_for_by_its_task(tmp_path):
    tasks = DataTasks(Workspace(tmp_path, tmp_path))
    with pytest.raises(DataError) as caught:
        tasks.task("mteb-some").action(tmp_path, Silent())
    assert caught.value.hint == "ragcun data get mteb:TASK"


# With mteb itself


def with_mteb(test):
    return pytest.mark.system(pytest.mark.needs("mteb")(test))


@pytest.fixture
def mteb():
    import mteb

    return mteb


@pytest.fixture
def local_task(mteb, tmp_path, monkeypatch):
    """A task of mteb whose data set is a folder in the Hub's form, read by mteb's own loader."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    hub = tmp_path / "hub"
    parts = {
        "corpus": [row | {"title": row["title"] or ""} for row in CORPUS],
        "queries": QUERIES,
        "qrels": [
            {"query-id": query, "corpus-id": passage, "score": grade}
            for query, judged in QRELS.items()
            for passage, grade in judged.items()
        ],
    }
    lines = ["---", "configs:"]
    for name, rows in parts.items():
        (hub / name).mkdir(parents=True)
        text = "".join(json.dumps(row).replace('"id"', '"_id"') + "\n" for row in rows)
        (hub / name / "test.jsonl").write_text(text)
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += ["  - split: test", f"    path: {name}/test.jsonl"]
    (hub / "README.md").write_text("\n".join([*lines, "---"]) + "\n")

    class LocalTask(AbsTaskRetrieval):
        ignore_identical_ids = True
        metadata = TaskMetadata(
            name="LocalTask",
            description="A folder",
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            dataset={"path": str(hub), "revision": "abc"},
        )

    monkeypatch.setitem(sys.modules["mteb.get_tasks"]._TASKS_REGISTRY, "LocalTask", LocalTask)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return LocalTask


@with_mteb
def test_a_task_that_mteb_loads_is_the_same_set(local_task, tmp_path):
    found = load_task("mteb:LocalTask")
    assert found.task == MtebTask("LocalTask", "abc")
    store_mteb(found, tmp_path / "real", progress=Silent())
    stored(tmp_path / "made")
    for name in ("queries.jsonl", "qrels/test.tsv", "passages/corpus.json"):
        assert (tmp_path / "real" / name).read_text() == (tmp_path / "made" / name).read_text()


@with_mteb
def test_data_get_brings_a_task(local_task, tmp_path, ragcun):
    outcome = ragcun("data", "get", "mteb:LocalTask", "-w", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["mteb-localtask"]["passages"] == 3
    outcome = ragcun("data", "verify", "-w", tmp_path)
    assert outcome.code == 0, outcome.err
    outcome = ragcun("data", "list", "-w", tmp_path)
    assert "task LocalTask of mteb" in outcome.out


@with_mteb
def test_a_task_of_the_older_form_is_read_too(local_task, monkeypatch):
    def load_data(self, **kwargs):
        self.corpus = {"test": {row["id"]: row for row in CORPUS[:2]}}
        self.queries = {"test": {row["id"]: row["text"] for row in QUERIES}}
        self.relevant_docs = {"test": QRELS}

    monkeypatch.setattr(local_task, "load_data", load_data)
    found = load_task("mteb:LocalTask")
    assert found.passages == 2
    assert found.qrels == QRELS


@with_mteb
@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("mteb:scifact", "did you mean SciFact", "ragcun data get mteb:SciFact"),
        ("mteb:qqqqqqqqqqqq", "no task 'qqqqqqqqqqqq'", "mteb available-tasks"),
        ("mteb:STSBenchmark", "a task of STS of text", None),
        ("mteb:CQADupstackRetrieval", "mean of other tasks", None),
        ("mteb:SciFact/en", "no subset 'en'", "ragcun data get mteb:SciFact"),
        ("mteb:CodeSearchNetRetrieval", "several subsets: python", None),
        (
            "mteb:CodeSearchNetRetrieval/pythn",
            "no subset 'pythn'",
            "ragcun data get mteb:CodeSearchNetRetrieval/python",
        ),
        ("mteb:LEMBNeedleRetrieval", "none of them is test", None),
    ],
)
def test_what_mteb_cannot_give_is_said(mteb, name, message, hint):
    with pytest.raises(DataError, match=message) as caught:
        load_task(name)
    assert caught.value.hint == hint or hint is None


@with_mteb
def test_every_task_and_subset_has_a_name_and_a_folder_of_its_own(mteb):
    names = []
    for task in mteb.get_tasks(task_types=["Retrieval"]):
        names.append(f"mteb:{task.metadata.name}")
        if task.metadata.is_multilingual:
            names += [f"{names[-1]}/{subset}" for subset in task.metadata.hf_subsets]
    assert len(names) > 1000
    assert all(sources.find_mteb(name).name == name for name in names)
    assert len({dataset_folder(name) for name in names}) == len(names)
    assert max(map(len, names)) < 100
