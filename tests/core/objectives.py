"""The objective that the tests of this folder start from."""

from ragcun_cli.core.objective.terms import ObjectiveSettings

SETTINGS = ObjectiveSettings(
    contrastive="euclidean",
    scale=20.0,
    symmetric=False,
    combination="sum",
    regulariser="sigreg",
    lambda_isotropy=1.0,
    lambda_reg=0.1,
    slices=1024,
    knots=17,
    t_max=3.0,
    scaled_by_batch=True,
    pooled=False,
)
