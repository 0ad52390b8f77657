"""What the trainings of published encoders saw, as the installed mteb has it.

python benchmarks/trained_on.py > ragcun_cli/pipeline/encoders/trained_on.toml
"""

import tomllib
from pathlib import Path

import mteb

from ragcun_cli.pipeline.encoders.published import PUBLISHED
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER

PROFILES = Path(__file__).parents[1] / "profiles"
MORE = ("BAAI/bge-small-en-v1.5", "minishlab/potion-base-8M")
UNTRAINED = (TINY_ENCODER, "mteb/baseline-bm25s", *(n for n in PUBLISHED if n.startswith("BM25 (")))

HEAD = f"""\
# Which tasks of mteb the training of an encoder saw, by the metadata of mteb {mteb.__version__},
# variants of a task included. A model that is not here is one of which mteb knows nothing; one with
# an empty list was trained on no queries. Made by benchmarks/trained_on.py.

mteb = "{mteb.__version__}"

[models]"""


def bases():
    """The encoders that profiles name."""
    profiles = [tomllib.loads(file.read_text()) for file in sorted(PROFILES.glob("*.toml"))]
    sections = [profile.get("overrides", profile) for profile in profiles]
    return {part["encoder"]["base"] for part in sections if "base" in part.get("encoder", {})}


def originals(task):
    """A task, and those that it was made of: the whole of a sample, the source of a translation."""
    found = {task}
    try:
        metadata = mteb.get_task(task).metadata
    except KeyError:  # a name for data that is no task
        return found
    for other in metadata.adapted_from or ():
        found |= originals(other) if other != task else set()
    if metadata.name.startswith("CQADupstack"):
        found.add("CQADupstackRetrieval")
    return found if metadata.type == "Retrieval" else set()


def seen(name):
    """Names of tasks, None where mteb knows nothing."""
    if name in UNTRAINED:
        return []
    try:
        named = mteb.get_model_meta(name.split(" (")[0], fetch_from_hf=False)
    except KeyError:
        return None
    tasks = named.get_training_datasets()
    return None if tasks is None else sorted({part for task in tasks for part in originals(task)})


if __name__ == "__main__":
    print(HEAD)
    for name in sorted({*bases(), *PUBLISHED, *MORE, *UNTRAINED}):
        if (tasks := seen(name)) is not None:
            print(f'"{name}" = [{", ".join(f"{chr(34)}{task}{chr(34)}" for task in tasks)}]')
