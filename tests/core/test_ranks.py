"""Two processes with half a batch each have to compute what one does with the whole."""

import socket
from dataclasses import replace

import objectives
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from ragcun_cli.core.collective import gather_rows, mean_over_ranks, world_size
from ragcun_cli.core.objective.retrieval_loss import RetrievalLoss
from ragcun_cli.core.objective.sigreg import sigreg, unit_directions
from ragcun_cli.core.objective.terms import Batch, gradient_norms, objective_terms, weighted

SETTINGS = replace(
    objectives.SETTINGS, symmetric=True, lambda_isotropy=0.5, lambda_reg=0.25, slices=32
)
OBJECTIVES = {
    "sigreg": SETTINGS,
    "pooled": replace(SETTINGS, pooled=True),
    "unscaled": replace(SETTINGS, scaled_by_batch=False, combination="convex"),
    "cosine": replace(SETTINGS, contrastive="cosine", symmetric=False),
    "spread_out": replace(SETTINGS, regulariser="spread_out"),
    "vicreg": replace(SETTINGS, regulariser="vicreg", contrastive="dot"),
}
ROWS, WIDTH = 12, 8


class Linear(nn.Module):
    """An encoder of one matrix."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(9)
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=generator) / 2)

    def __getitem__(self, position):
        return self

    def forward(self, features):
        return {"sentence_embedding": features["rows"] @ self.weight}


def columns(part):
    tables = [
        torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    ]
    return [{"rows": table[part]} for table in tables]


PAIRS = [
    *((row, row) for row in range(ROWS) if row != 9),
    (9, 1),
    *[(0, 7), (8, 2)],  # another row's positive, on the other rank
    *[(9, ROWS + 1), (1, ROWS + 10)],  # another row's negative, on the other rank
    *[(3, 4), (3, 5)],  # on this one
]
"""Row of a query, column of a passage that is judged relevant to it."""
QUERY = 2**20


def labels(part):
    passages = torch.arange(2 * ROWS).reshape(2, ROWS).T
    numbers = torch.cat([QUERY * torch.arange(1, ROWS + 1)[:, None], passages], dim=1)
    numbers[7, 2] = numbers[0, 1]  # a negative on one rank is a positive on the other
    numbers[9, 1] = numbers[1, 1]  # two queries with one positive
    return numbers[part]


def judged():
    return torch.tensor(sorted(QUERY * (row + 1) ^ passage for row, passage in PAIRS))


def by_a_double_loop():
    """(rows, columns) that are masked, of one process."""
    numbers = labels(slice(None))
    passages = [*numbers[:, 1].tolist(), *numbers[:, 2].tolist()]
    mask = torch.zeros(ROWS, 2 * ROWS, dtype=torch.bool)
    for row in range(ROWS):
        for place, passage in enumerate(passages):
            mask[row, place] = place != row and (row, passage) in PAIRS
    return mask


def results(part):
    """Total and gradient of each objective, plain and by GradCache, averaged over ranks."""
    found = {}
    for name, settings in OBJECTIVES.items():
        for size in (None, 4):
            loss = RetrievalLoss(Linear(), settings, seed=3, mini_batch_size=size, judged=judged())
            total = sum(loss(columns(part), labels(part)).values())
            total.backward()
            gradient = loss.model.weight.grad
            if world_size() > 1:
                dist.all_reduce(gradient)
                gradient = gradient / world_size()
            masked = loss.take_means()["masked_per_query"]
            found[f"{name}, {size}"] = (total.detach(), gradient, masked)
    return found


class Head(nn.Module):
    """What is between the outputs of a base and the embeddings."""

    def __init__(self):
        super().__init__()
        self.linear = Linear()

    def forward(self, features):
        return self.linear({"rows": features["sentence_embedding"]})


def head_norms(part):
    queries, *passages = [column["rows"] for column in columns(part)]
    batch = Batch(queries, torch.cat(passages))
    norms = gradient_norms(batch, settings=SETTINGS, slice_seed=1, head=Head())
    return {name: norm.item() for name, norm in norms.items()}


def gather_and_average():
    mine = torch.tensor([[float(dist.get_rank())]], requires_grad=True)
    gathered = gather_rows(mine)
    average = mean_over_ranks(mine)
    # As DistributedDataParallel has it: every rank has the loss, gradients are averaged after.
    (gathered[0, 0] * 3 + gathered[1, 0] * 5 + average[0, 0] * 7).backward()
    return gathered.detach(), average.detach(), mine.grad


def work(rank, port, folder):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    half = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    embeddings = columns(half)[0]["rows"]
    outcome = {
        "objectives": results(half),
        "head": head_norms(half),
        "gather": gather_and_average(),
        "sigreg": sigreg(embeddings, unit_directions(16, WIDTH, seed=0)),
    }
    torch.save(outcome, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, args=(port, folder), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_have_the_loss_and_the_gradient_of_one_process(two_ranks, name, size):
    total, gradient, masked = results(slice(None))[f"{name}, {size}"]
    assert masked == pytest.approx(by_a_double_loop().sum().item() / ROWS)
    for outcome in two_ranks:
        seen_total, seen_gradient, seen_masked = outcome["objectives"][f"{name}, {size}"]
        assert seen_masked == masked
        assert seen_total.item() == pytest.approx(total.item(), rel=1e-5)
        error = (seen_gradient - gradient).norm() / gradient.norm()
        assert error < 1e-5


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("name", ["sigreg", "cosine"])
def test_judged_passages_of_other_rows_are_masked_as_a_double_loop_finds_them(name, size):
    settings, mask = OBJECTIVES[name], by_a_double_loop()
    assert mask.sum() == 6 + 1 + 2  # the pairs of other rows, a copy, and one positive of two
    total, gradient, _ = results(slice(None))[f"{name}, {size}"]
    model = Linear()
    queries, *passages = [part["rows"] @ model.weight for part in columns(slice(None))]
    batch = Batch(queries, torch.cat(passages), mask)
    terms, _ = objective_terms(batch, settings=settings, slice_seed=3 * 1_000_003)
    expected = sum(weighted(terms, settings).values())
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (model.weight.grad - gradient).norm() < 1e-5 * gradient.norm()


def test_the_gradient_on_the_head_is_that_of_all_ranks(two_ranks):
    for outcome in two_ranks:
        assert outcome["head"] == pytest.approx(head_norms(slice(None)), rel=1e-5)


def test_sigreg_on_two_ranks_is_that_of_the_joined_batch(two_ranks):
    embeddings = columns(slice(None))[0]["rows"]
    expected = sigreg(embeddings, unit_directions(16, WIDTH, seed=0)).item()
    for outcome in two_ranks:
        assert outcome["sigreg"].item() == pytest.approx(expected, rel=1e-5)


def test_ranks_gather_and_average_values_and_gradients(two_ranks):
    for rank, outcome in enumerate(two_ranks):
        gathered, average, gradient = outcome["gather"]
        assert gathered.tolist() == [[0.0], [1.0]]
        assert average.tolist() == [[0.5]]
        # each rank adds its loss: twice 3 or 5, and 7 for both halves of the mean
        assert gradient.item() == pytest.approx(2 * (3, 5)[rank] + 7)


def test_a_process_alone_is_its_own_world():
    rows = torch.ones(2, 3)
    assert world_size() == 1
    assert gather_rows(rows) is rows
    assert mean_over_ranks(rows) is rows
