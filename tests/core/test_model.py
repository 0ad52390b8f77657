import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch.nn import functional

from ragcun_cli.core.model import (
    build_encoder,
    freeze,
    gaussian_head,
    linear_head_weights,
    parameter_counts,
    random_rotation,
    without_dropout,
    without_length,
    without_normalize,
)
from ragcun_cli.core.rankings.metrics import mean, score_queries
from ragcun_cli.core.search.ranking import ExactTopK
from ragcun_cli.pipeline.data.pydocs.build import build_docstrings
from ragcun_cli.pipeline.data.sources import PYDOCS
from ragcun_cli.pipeline.encoders.find import find_encoder, load_encoder
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

TEXTS = [
    "the heart pumps blood",
    "a river meets the sea",
    "stars burn hydrogen",
    "bread needs yeast",
    "glass is made of sand, and quite a lot of it",
    "x",
]


def sample(n=200, d=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) * torch.linspace(0.2, 3, d) + 0.7


def apply_head(rows, weights):
    first, second, bias = weights
    return functional.gelu(rows @ first.T) @ second.T + bias


def squared_distances(rows):
    return ((rows[:, None].double() - rows[None].double()) ** 2).sum(-1)


@pytest.mark.parametrize("output_dim", [4, 12, 20])
def test_the_head_with_its_gelu_is_a_linear_projection(output_dim):
    rows = sample()
    first, second, bias = linear_head_weights(rows, output_dim=output_dim, centre=True)
    assert (first.shape, second.shape, bias.shape) == ((24, 12), (output_dim, 24), (output_dim,))
    projection = second[:, :12].double()
    expected = (rows.double() - rows.double().mean(0)) @ projection.T
    outputs = apply_head(rows, (first, second, bias))
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("output_dim", [4, 12, 20])
def test_the_mean_squared_length_of_the_samples_outputs_is_the_output_dimension(output_dim, centre):
    rows = sample()
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=output_dim, centre=centre))
    assert (outputs**2).sum(1).mean().item() == pytest.approx(output_dim, rel=1e-4)


@pytest.mark.parametrize("output_dim", [12, 20])
def test_a_head_at_least_as_wide_as_the_base_keeps_all_distances_up_to_one_factor(output_dim):
    rows, others = sample(), sample(30, seed=1)
    outputs = apply_head(others, linear_head_weights(rows, output_dim=output_dim, centre=True))
    off_diagonal = ~torch.eye(30, dtype=torch.bool)
    ratios = (squared_distances(outputs) / squared_distances(others))[off_diagonal]
    assert ratios.max().item() == pytest.approx(ratios.min().item(), rel=1e-4)


def gram_schmidt(rows):
    """An orthonormal basis of the columns, one after the other, each along its own column."""
    found = []
    for column in rows.T:
        for earlier in found:
            column = column - (column @ earlier) * earlier
        found.append(column / np.sqrt(column @ column))
    return np.stack(found, axis=1)


def test_a_rotation_is_the_gram_schmidt_basis_of_a_gaussian_matrix():
    for size, seed in ((2, 0), (7, 3), (20, 1)):
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(size, size, dtype=torch.float64, generator=generator).numpy()
        found = random_rotation(size, seed=seed).numpy()
        np.testing.assert_allclose(found, gram_schmidt(drawn), atol=1e-10)
        np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-13)


def test_rotations_are_uniform_over_the_orthogonal_group():
    """Traces of uniform ones have mean 0 and mean square 1; a QR's own signs miss both."""
    drawn = torch.stack([random_rotation(5, seed=seed) for seed in range(1000)]).numpy()
    traces = drawn.trace(axis1=1, axis2=2)
    assert abs(traces.mean()) < 4 / np.sqrt(1000)
    assert np.mean(traces**2) == pytest.approx(1, abs=4 * np.sqrt(2 / 1000))
    assert abs(drawn[:, 0, 0].mean()) < 4 / np.sqrt(5 * 1000)


def test_a_rotation_is_its_seeds_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = random_rotation(64, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(2)
    try:
        torch.randn(3)
        assert torch.allclose(random_rotation(64, seed=2), one, rtol=0, atol=1e-13)
    finally:
        torch.set_num_threads(1)
    assert (random_rotation(64, seed=3) - one).abs().max() > 0.1


@pytest.mark.parametrize("output_dim", [5, 12, 20])
def test_a_rotated_start_is_the_plain_one_turned(output_dim):
    rows, others = sample(), sample(30, seed=1)
    plain, turned = (
        apply_head(others, weights).double()
        for weights in (
            linear_head_weights(rows, output_dim=output_dim, centre=True),
            linear_head_weights(rows, output_dim=output_dim, centre=True, rotation_seed=4),
        )
    )
    torch.testing.assert_close(
        turned, plain @ random_rotation(output_dim, seed=4).T, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        squared_distances(turned), squared_distances(plain), rtol=1e-4, atol=1e-3
    )
    assert (turned.std(0) > 0.1).all()


def test_outputs_beyond_the_width_of_the_base_are_zero():
    rows = sample()
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=20, centre=True))
    assert (outputs[:, 12:] == 0).all()
    assert (outputs[:, :12].std(0) > 0.1).all()


def test_a_narrow_head_keeps_the_directions_of_largest_variance_in_order():
    rows = sample()
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=5, centre=True)).double()
    singular = np.linalg.svd((rows - rows.mean(0)).double().numpy(), compute_uv=False)[:5]
    expected = 5 * singular**2 / (singular**2).sum()
    np.testing.assert_allclose((outputs**2).mean(0).numpy(), expected, rtol=1e-3)
    covariance = outputs.T @ outputs / len(outputs)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-4


def test_centred_outputs_have_mean_zero():
    rows = sample()
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=12, centre=True))
    torch.testing.assert_close(outputs.mean(0), torch.zeros(12), rtol=0, atol=1e-5)


def test_without_centring_a_wide_head_keeps_the_cosines():
    rows, others = sample(), sample(40, seed=1)
    first, second, bias = linear_head_weights(rows, output_dim=16, centre=False)
    assert (bias == 0).all()
    outputs = apply_head(others, (first, second, bias))
    cosines = [
        functional.normalize(x, dim=1) @ functional.normalize(x, dim=1).T for x in (others, outputs)
    ]
    torch.testing.assert_close(cosines[1], cosines[0], rtol=0, atol=1e-5)


def test_with_centring_the_cosines_change():
    rows = sample()
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=12, centre=True))
    before, after = (torch.cosine_similarity(x[:1], x[1:]) for x in (rows, outputs))
    assert (before - after).abs().max() > 0.05


def test_each_directions_largest_entry_is_positive_so_that_signs_are_fixed():
    rows = sample()
    for one in (rows, -rows, rows.flip(0)):
        projection = linear_head_weights(one, output_dim=12, centre=True)[1][:, :12]
        largest = projection.abs().argmax(1, keepdim=True)
        assert (projection.gather(1, largest) > 0).all()
    forward, mirrored = (
        linear_head_weights(x, output_dim=12, centre=True)[1] for x in (rows, -rows)
    )
    torch.testing.assert_close(forward, mirrored, rtol=0, atol=1e-4)


def test_the_same_sample_gives_the_same_weights():
    first, again = (linear_head_weights(sample(), output_dim=7, centre=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 3, 7, 100])
def test_a_sample_of_equal_rows_is_refused(n, dtype, centre):
    rows = torch.tensor([[0.1, -0.7, 1 / 3]], dtype=dtype).repeat(n, 1)
    with pytest.raises(ValueError, match="the same embedding"):
        linear_head_weights(rows, output_dim=3, centre=centre)


def test_a_sample_with_fewer_rows_than_columns_is_enough():
    rows = sample(3)
    outputs = apply_head(rows, linear_head_weights(rows, output_dim=12, centre=True))
    assert (outputs**2).sum(1).mean().item() == pytest.approx(12, rel=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    build_tiny_encoder(folder)
    return folder


@pytest.fixture
def base(tiny):
    return without_normalize(SentenceTransformer(str(tiny), device="cpu"))


def encoder(base, *, output_dim=48, dropout=0.1, similarity="euclidean", linear_start=None):
    return build_encoder(
        base,
        output_dim=output_dim,
        dropout=dropout,
        similarity=similarity,
        linear_start=linear_start,
    )


def embed(model, texts=TEXTS):
    return model.encode(texts, convert_to_tensor=True, show_progress_bar=False)


def test_the_base_loses_its_normalize_module_and_nothing_else(tiny, base):
    whole = SentenceTransformer(str(tiny), device="cpu")
    assert any(isinstance(module, Normalize) for module in whole)
    assert not any(isinstance(module, Normalize) for module in base)
    assert base.max_seq_length == whole.max_seq_length
    torch.testing.assert_close(functional.normalize(embed(base), dim=1), embed(whole))


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_the_encoder_says_how_it_retrieves(base, similarity):
    model = encoder(base, similarity=similarity)
    assert model.similarity_fn_name == similarity
    assert model.get_embedding_dimension() == 48
    assert model.max_seq_length == base.max_seq_length


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_a_saved_encoder_loads_without_us_to_the_same_bits(base, tmp_path, similarity, linear):
    start = embed(base) if linear else None
    model = encoder(base, similarity=similarity, linear_start=start)
    model.save(str(tmp_path / "saved"))
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert loaded.similarity_fn_name == similarity
    assert loaded.max_seq_length == model.max_seq_length
    assert loaded.prompts == model.prompts
    assert torch.equal(embed(loaded), embed(model))


def test_prompts_survive_the_building(base):
    base.prompts = {"query": "query: ", "document": "passage: "}
    base.default_prompt_name = "query"
    model = encoder(base, linear_start=embed(base))
    assert model.prompts["query"] == "query: "
    assert model.prompts["document"] == "passage: "
    assert model.default_prompt_name == "query"


def test_before_training_a_linear_start_ranks_as_the_base_does(base):
    model = encoder(base, linear_start=embed(base))
    before, after = squared_distances(embed(base)), squared_distances(embed(model))
    factor = after.sum() / before.sum()
    torch.testing.assert_close(after, before * factor, rtol=1e-3, atol=1e-4)
    assert (embed(model) ** 2).sum(1).mean().item() == pytest.approx(48, rel=1e-3)


def test_a_linear_start_for_cosines_keeps_the_cosines_of_the_base(base):
    model = encoder(base, similarity="cosine", linear_start=embed(base))
    rows = [functional.normalize(embed(m), dim=1) for m in (base, model)]
    torch.testing.assert_close(rows[1] @ rows[1].T, rows[0] @ rows[0].T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_whitening_divides_each_direction_by_a_power_of_its_eigenvalue(whitening):
    rows = sample(400)
    weights = linear_head_weights(rows, output_dim=8, centre=True, whitening=whitening)
    outputs = apply_head(rows, weights).double()
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, ddof=0))[::-1][:8]
    expected = eigenvalues ** (1 - whitening)
    expected = expected * 8 / expected.sum()
    np.testing.assert_allclose((outputs**2).mean(0).numpy(), expected, rtol=1e-3)


def test_directions_that_the_sample_does_not_have_are_kept_unless_whitened():
    rows = sample(5)
    others = sample(50, seed=3)
    kept = apply_head(others, linear_head_weights(rows, output_dim=12, centre=True))
    ratios = squared_distances(kept) / squared_distances(others)
    off_diagonal = ~torch.eye(50, dtype=torch.bool)
    assert ratios[off_diagonal].std() < 1e-3 * ratios[off_diagonal].mean()
    white = apply_head(rows, linear_head_weights(rows, output_dim=12, centre=True, whitening=1.0))
    assert white.isfinite().all()
    assert (white[:, 4:].abs() < 1e-3).all(), "five rows span four directions"


def test_the_embeddings_are_the_projection_of_the_base_less_its_mean(base):
    start = embed(base)
    model = encoder(base, linear_start=start, output_dim=20)
    first, second, _ = linear_head_weights(start, output_dim=20, centre=True)
    assert torch.equal(first[:32], torch.eye(32))
    projection = second[:, :32].double()
    expected = (embed(base).double() - start.double().mean(0)) @ projection.T
    error = (embed(model).double() - expected).norm() / expected.norm()
    assert error < 1e-5


@pytest.mark.parametrize("output_dim", [32, 48])
def test_a_head_as_wide_as_the_base_finds_the_same_ten_passages(tiny, output_dim):
    base = SentenceTransformer(str(tiny), device="cpu")
    words = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words[:4] if a != b]
    model = encoder(base, linear_start=embed(base, texts[:100]), output_dim=output_dim)
    queries = [f"what is {text}" for text in texts[::9]]
    found = []
    for one, similarity in ((base, "cosine"), (model, "euclidean")):
        search = ExactTopK(embed(one, queries), k=12, similarity=similarity)
        search.add(embed(one, texts), first_row=0)
        found.append(search.hits())
    clear = 0
    for rows, others, scores in zip(found[0].rows, found[1].rows, found[0].scores, strict=True):
        if (np.diff(scores) < -1e-5).all():  # ties apart
            assert rows[:10].tolist() == others[:10].tolist()
            clear += 1
    assert clear > 10


@pytest.fixture(scope="module")
def minilm_on_docstrings(tmp_path_factory):
    """MiniLM's outputs for docstrings of numpy, and for others to start from."""
    folder = tmp_path_factory.mktemp("docs")
    workspace = Workspace(root=folder, data=folder)
    for name in ("pydocs-numpy", "pydocs-networkx"):
        build_docstrings(
            PYDOCS[name],
            workspace.dataset(name),
            workspace=workspace,
            numbers_version=1,
            progress=Silent(),
        )
    name = "sentence-transformers/all-MiniLM-L6-v2"
    config = EncoderConfig(base=name, max_seq_length=64)
    model = load_encoder(find_encoder(config, workspace), config, device="cpu")
    test = read_judged_set("pydocs-numpy", workspace.dataset("pydocs-numpy"))
    start = read_judged_set("pydocs-networkx", workspace.dataset("pydocs-networkx")).corpus
    return {
        "test": test,
        "queries": embed(model, list(test.queries.values())),
        "passages": embed(model, list(test.corpus.texts)),
        "start": embed(model, list(start.texts[:300])),
    }


def ndcg(outputs, queries, passages, *, similarity):
    search = ExactTopK(queries, k=11, similarity=similarity)
    search.add(passages, first_row=0)
    test = outputs["test"]
    ranked = {
        query: [test.corpus.ids[row] for row in rows]
        for query, rows in zip(test.queries, search.hits().rows, strict=True)
    }
    return mean(score_queries(test.qrels, ranked)["ndcg@10"].values())


@pytest.mark.parametrize("output_dim", [256, 384, 512])
def test_on_real_text_a_linear_start_is_as_good_as_the_base(minilm_on_docstrings, output_dim):
    outputs = minilm_on_docstrings
    queries, passages = outputs["queries"], outputs["passages"]
    untouched = ndcg(outputs, queries, passages, similarity="cosine")
    weights = linear_head_weights(outputs["start"], output_dim=output_dim, centre=True)
    headed = [apply_head(rows, weights) for rows in (queries, passages)]
    started = ndcg(outputs, *headed, similarity="euclidean")
    assert untouched > 0.5
    assert started == pytest.approx(untouched, abs=0.005)


def test_a_random_head_comes_from_the_global_generator(base):
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(gaussian_head(8, output_dim=4, dropout=0.0)[2].linear.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_frozen_modules_neither_learn_nor_drop_out_while_the_rest_trains(base):
    model = encoder(base)
    freeze(list(base))
    model.train()
    frozen, head = list(model)[: len(base)], list(model)[len(base) :]
    for module in frozen:
        assert not any(p.requires_grad for p in module.parameters())
        assert not any(part.training for part in module.modules())
    for module in head:
        assert all(p.requires_grad for p in module.parameters())
        assert all(part.training for part in module.modules())
    features = base.tokenize(TEXTS)
    first, again = (base(dict(features))["sentence_embedding"] for _ in range(2))
    assert torch.equal(first, again)


def test_a_frozen_encoder_can_be_saved(base, tmp_path):
    model = encoder(base)
    freeze(list(base))
    model.save(str(tmp_path / "saved"))
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(embed(loaded), embed(model))


def test_parameters_are_counted_with_and_without_the_frozen(base):
    model = encoder(base)
    freeze(list(base))
    head = (64 * 32 + 64) + (48 * 64 + 48)
    whole = head + sum(p.numel() for p in base.parameters())
    assert parameter_counts(model) == {"trainable_parameters": head, "parameters": whole}


def test_a_model_is_saved_without_dropout_and_with_all_else(tmp_path):
    build_tiny_encoder(tmp_path / "tiny")
    base = SentenceTransformer(str(tmp_path / "tiny"), device="cpu", prompts={"query": "ask: "})
    more = {"dropout": 0.5, "similarity": "dot", "linear_start": None}
    model = build_encoder(base, output_dim=8, **more).eval()
    saved = without_dropout(model)
    assert [type(part).__name__ for part in saved][-2:] == ["Dense", "Dense"]
    assert (len(model), len(saved)) == (6, 5)
    assert saved.prompts == model.prompts
    assert saved.similarity_fn_name == "dot"
    assert np.array_equal(saved.encode(TEXTS), model.encode(TEXTS))
    assert without_dropout(saved) is saved
    unit = without_length(saved)
    assert unit.similarity_fn_name == "cosine"
    np.testing.assert_allclose(np.linalg.norm(unit.encode(TEXTS), axis=1), 1, atol=1e-6)
