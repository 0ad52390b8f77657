import pytest
import torch

from ragcun_cli.core.training.average import WithStart


def layer():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_what_is_kept_is_part_start_and_training_goes_on_as_it_was(share):
    model = layer()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    average = WithStart(model, share)
    with torch.no_grad():
        for parameter in model[1].parameters():
            parameter += 1
    trained = {name: value.clone() for name, value in model.state_dict().items()}

    def copies(kept):
        return {name: value.clone() for name, value in kept.state_dict().items()}

    kept = average.kept(copies)
    for name, value in kept.items():
        expected = (1 - share) * trained[name].double() + share * start[name].double()
        assert torch.allclose(value.double(), expected, atol=1e-6)
        assert torch.equal(model.state_dict()[name], trained[name])
    assert torch.equal(kept["0.weight"], start["0.weight"])

    def fails(kept):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        average.kept(fails)
    assert torch.equal(model.state_dict()["1.weight"], trained["1.weight"])
