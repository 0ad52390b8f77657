import multiprocessing
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.model import HEAD_MODULES, build_encoder, without_dropout
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders import base_outputs
from ragcun_cli.pipeline.encoders.base_outputs import (
    RECIPE,
    VECTORS,
    WantedTexts,
    keep_base,
    on_wanted_outputs,
)
from ragcun_cli.pipeline.encoders.encode import encode_block, kept_base_of, set_kept_base
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.paths import OutputsFolder

PROMPTS = {"query": "query: ", "document": "passage: "}
LONG = "the sea and a river and the stars at night " * 20 + "end"
TEXTS = ["a river", "the sea at night", "stars", "", "a river", LONG, "stars over the sea", "x"]
HOW = {"batch_size": 3, "precision": "fp32"}


def an_encoder(tiny, prompts=None, seed=0):
    torch.manual_seed(seed)
    base = SentenceTransformer(str(tiny), device="cpu", prompts=prompts)
    base.max_seq_length = 16
    sample = base.encode(["a river", "stars", "the sea", LONG], convert_to_tensor=True)
    options = {"similarity": "euclidean", "linear_start": sample, "dropout": 0.1}
    return build_encoder(base, output_dim=8, **options)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "outputs"


class Heard(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def on_kept(model, folder, *, most_bytes=1e9, encoder="one", head=HEAD_MODULES, progress=None):
    """The model, with its base looked up."""
    kept = OutputsFolder(folder, {"sha256": encoder}, most_bytes)
    keep_base(model, kept, head=head, progress=progress or Silent())
    return model


def files(folder):
    return {file.name: file.read_bytes() for file in folder.glob(f"*/*{VECTORS}*")}


@pytest.mark.parametrize("prompts", [None, PROMPTS])
@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_embeddings_are_those_of_the_whole_model_to_the_last_bit(
    tiny, folder, prompts, side, precision
):
    whole, how = an_encoder(tiny, prompts), {**HOW, "precision": precision}
    expected = encode_block(whole, TEXTS, side=side, **how)
    if precision == "fp32":
        served = whole.encode(TEXTS, prompt=(prompts or {}).get(side), convert_to_tensor=True)
        gaps = (expected - served).norm(dim=1)
        assert (gaps <= 1e-5 * served.norm(dim=1)).all()
    for encoded in (len(TEXTS), 0):
        kept = on_kept(an_encoder(tiny, prompts), folder)
        assert torch.equal(encode_block(kept, TEXTS, side=side, **how), expected)
        assert kept_base_of(kept).encoded == encoded
    assert len(files(folder)) == 2


def test_a_base_without_a_head_shares_the_outputs_of_one_with(tiny, folder):
    encode_block(on_kept(an_encoder(tiny), folder), TEXTS, side="query", **HOW)
    base = SentenceTransformer(str(tiny), device="cpu")
    base.max_seq_length = 16
    expected = encode_block(base, TEXTS, side="query", **HOW)
    on_kept(base, folder, head=0)
    assert torch.equal(encode_block(base, TEXTS, side="query", **HOW), expected)
    assert kept_base_of(base).encoded == 0


@pytest.mark.parametrize("other", ["weights", "length", "files", "batch_size", "precision"])
def test_what_decides_the_outputs_parts_them(tiny, folder, other):
    encode_block(on_kept(an_encoder(tiny), folder), TEXTS, **HOW)
    model, how = an_encoder(tiny), dict(HOW)
    if other == "weights":
        with torch.no_grad():
            next(model[0].parameters()).mul_(1.5)
    if other == "length":
        model.max_seq_length = 8
    how |= {"batch_size": 2} if other == "batch_size" else {}
    how |= {"precision": "bf16"} if other == "precision" else {}
    expected = encode_block(model, TEXTS, **how)
    on_kept(model, folder, encoder="another" if other == "files" else "one")
    assert torch.equal(encode_block(model, TEXTS, **how), expected)
    assert kept_base_of(model).encoded == len(TEXTS)
    assert len(list(folder.glob(f"*/{RECIPE}"))) == 2


def wanted(rows, total=8, block=3, **more):
    corpus = Corpus.of({f"{number}": TEXTS[number] for number in range(total)})
    return WantedTexts.passages(corpus, np.array(rows), prompt="", block=block, **more)


def test_blocks_are_those_of_the_whole_list_where_it_is_not_much_longer():
    """By hand: five times as many as are wanted is the last whole list."""
    texts = WantedTexts.all_of(["a", "b", "c", "d", "e"], prompt="", block=2)
    assert [rows.tolist() for rows in texts.blocks] == [[0, 1], [2, 3], [4]]
    assert [rows.tolist() for rows in wanted([7, 2, 2]).blocks] == [[0, 1, 2], [6, 7]]
    assert [rows.tolist() for rows in wanted([3]).blocks] == [[3]]
    assert [rows.tolist() for rows in wanted([1, 3, 5, 6], most=1.9).blocks] == [[1, 3, 5], [6]]
    assert [rows.tolist() for rows in wanted([4], total=5).blocks] == [[3, 4]]


def looked_up(model, some, folder, texts):
    fitted = on_wanted_outputs(
        model, some, folder.parent / "wanted.f32", label="", progress=Silent(), **HOW
    )
    return encode_block(fitted, texts, side="query", **HOW)


@pytest.mark.parametrize("most", [5, 1])
def test_wanted_texts_are_known_by_their_words(tiny, folder, most):
    model = an_encoder(tiny, {"query": ""})
    rows = [0, 3, 4, 5, 6]
    texts = [TEXTS[row] for row in [6, 0, 5, 4, 3, 6]]
    expected = encode_block(model, texts, side="query", **HOW)
    on_kept(model, folder)
    found = looked_up(model, [wanted(rows, most=most)], folder, texts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(Exception, match="stars"):
        looked_up(model, [wanted(rows, most=most)], folder, ["stars"])


def test_prompts_part_texts_and_the_first_of_two_alike_counts(tiny, folder):
    model = on_kept(an_encoder(tiny, PROMPTS), folder)
    prompted = WantedTexts.all_of(TEXTS, prompt="query: ", block=8)
    with pytest.raises(Exception, match="a river"):
        looked_up(model, [wanted(range(8))], folder, TEXTS)
    first = looked_up(model, [prompted, wanted(range(8))], folder, TEXTS)
    again = looked_up(model, [prompted], folder, TEXTS)
    assert torch.equal(first, again)
    assert torch.equal(first[0], first[4])


def test_no_number_depends_on_what_came_first(tiny, folder):
    """Either of two first, the store deleted in between, or too small for anything."""

    def numbers(model, rows):
        found = [looked_up(model, [wanted(rows)], folder, [TEXTS[row] for row in rows])]
        found += [encode_block(model, TEXTS[start : start + 3], **HOW) for start in (0, 3, 6)]
        return torch.cat(found)

    one, other = [0, 4, 6], [1, 2, 4, 7]
    models = [an_encoder(tiny, {"query": ""}, seed=seed) for seed in (1, 2)]
    seen = []
    for order in ((0, 1), (1, 0)):
        for way in ("kept", "deleted between", "no room"):
            shutil.rmtree(folder, ignore_errors=True)
            found = {}
            for place in order:
                if way == "deleted between":
                    shutil.rmtree(folder, ignore_errors=True)
                model = on_kept(models[place], folder, most_bytes=0 if way == "no room" else 1e9)
                found[place] = numbers(model, (one, other)[place])
            seen.append((found[0], found[1], files(folder)))
    for first, second, _ in seen[1:]:
        assert torch.equal(first, seen[0][0])
        assert torch.equal(second, seen[0][1])
    assert seen[0][2] == seen[3][2]
    assert Counter(map(len, (kept for *_, kept in seen)))[0] == 2


def test_what_has_no_room_is_computed_and_said_once(tiny, folder, monkeypatch):
    monkeypatch.setattr(base_outputs, "_FULL", set())
    expected = encode_block(an_encoder(tiny), TEXTS, **HOW)
    encode_block(on_kept(an_encoder(tiny), folder), TEXTS[:2], **HOW)
    before, heard = files(folder), Heard()
    for _ in range(2):
        kept = on_kept(an_encoder(tiny), folder, most_bytes=500, progress=heard)
        assert torch.equal(encode_block(kept, TEXTS, **HOW), expected)
    assert files(folder) == before
    (note,) = heard.notes
    assert "--cache-gb" in note
    assert "ragcun reproduce --clean" in note


def damaged(file, damage):
    raw = file.read_bytes()
    changed = {
        "cut": raw[:-1],
        "emptied": b"",
        "changed": bytes([*raw[:-1], raw[-1] ^ 1]),
        "turned round": raw[::-1],
    }
    file.write_bytes(changed[damage])


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", None])
def test_a_writer_that_was_killed_loses_only_its_block(tiny, folder, damage):
    model = on_kept(an_encoder(tiny), folder)
    expected = [encode_block(model, some, **HOW) for some in (TEXTS[:4], TEXTS[4:])]
    before = files(folder)
    mark = next(folder.glob(f"*/*{VECTORS}.sha256"))
    block = mark.with_suffix("")
    mark.unlink()
    if damage is None:
        block.rename(block.with_name(f".{block.name}.draft"))
    else:
        damaged(block, damage)
    again = on_kept(an_encoder(tiny), folder)
    found = [encode_block(again, some, **HOW) for some in (TEXTS[:4], TEXTS[4:])]
    assert all(map(torch.equal, found, expected))
    assert kept_base_of(again).encoded == 4
    assert files(folder) == before


@pytest.mark.parametrize("ending", [VECTORS, f"{VECTORS}.sha256"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "turned round"])
def test_outputs_that_are_not_what_was_written_are_one_error(tiny, folder, ending, damage):
    encode_block(on_kept(an_encoder(tiny), folder), TEXTS, **HOW)
    (file,) = folder.glob(f"*/*{ending}")
    damaged(file, damage)
    with pytest.raises(WorkspaceError, match="cache is damaged") as refused:
        encode_block(on_kept(an_encoder(tiny), folder), TEXTS, **HOW)
    assert refused.value.hint == f"rm -r {file.parent}"


def fill(tiny, folder, together, found, order):
    model = on_kept(an_encoder(tiny), folder)
    together.wait(60)
    rows = {start: encode_block(model, [f"{start}", *TEXTS], **HOW) for start in order}
    joined = torch.cat([rows[start] for start in range(6)])
    found.put((kept_base_of(model).encoded, joined.numpy().tobytes()))


def test_two_processes_at_once_encode_each_block_once(tiny, folder):
    context = multiprocessing.get_context("fork")
    together, found = context.Barrier(2), context.Queue()
    started = [
        context.Process(target=fill, args=(tiny, folder, together, found, order))
        for order in (range(6), range(5, -1, -1))
    ]
    for process in started:
        process.start()
    (first, rows), (second, same) = found.get(timeout=120), found.get(timeout=120)
    for process in started:
        process.join()
    assert rows == same
    assert first + second == 6 * (len(TEXTS) + 1)


def test_a_folder_that_cannot_be_written_keeps_nothing(tiny, folder, unprivileged):
    expected = encode_block(an_encoder(tiny), TEXTS, **HOW)
    folder.mkdir()
    folder.chmod(0o500)
    with unprivileged():
        kept = on_kept(an_encoder(tiny), folder)
        assert torch.equal(encode_block(kept, TEXTS, **HOW), expected)
    assert not list(folder.iterdir())


def test_a_base_that_is_let_go_is_run_again(tiny, folder):
    model = on_kept(an_encoder(tiny), folder)
    set_kept_base(model, None)
    encode_block(model, TEXTS, **HOW)
    assert not folder.exists()


def test_a_model_that_was_saved_with_its_dropout_reads_the_same_outputs(tiny, folder, tmp_path):
    model, found = an_encoder(tiny), []
    model.save(str(tmp_path / "earlier"), create_model_card=False)
    without_dropout(model).save(str(tmp_path / "now"), create_model_card=False)
    assert (tmp_path / "earlier/4_Dropout").is_dir()
    assert not list((tmp_path / "now").glob("*Dropout*"))
    for name in ("earlier", "now", "earlier"):
        kept = OutputsFolder(folder, {"sha256": "one"}, 1e9)
        loaded = ModelSource(tmp_path / name, "cpu", outputs=kept).load()
        found.append(encode_block(loaded, TEXTS, side="document", **HOW))
        assert len(kept_base_of(loaded).modules) == 3
        assert kept_base_of(loaded).encoded == (0 if found[1:] else len(TEXTS))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], encode_block(model.eval(), TEXTS, side="document", **HOW))
