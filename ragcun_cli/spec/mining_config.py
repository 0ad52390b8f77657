"""How negatives are found: the section `[mining]` of a profile."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from ragcun_cli.spec.section import Section, Sha256

_North = Literal["none", "english", "danish", "dutch", "german", "norwegian", "swedish"]
_South = Literal["french", "italian", "portuguese", "russian", "spanish", "turkish"]
_Europe = Literal["basque", "catalan", "czech", "estonian", "finnish", "greek", "hungarian"]
_Europe2 = Literal["irish", "lithuanian", "polish", "romanian", "serbian", "yiddish", "esperanto"]
_World = Literal["arabic", "armenian", "hindi", "indonesian", "nepali", "persian", "sesotho"]
_Other = Literal["tamil", "dutch_porter", "porter"]
STOPWORDS = Literal[_North, _South, "chinese", "korean"]
"""Languages that bm25s has a list of stop words of."""


class MiningConfig(Section):
    """How negatives are found: hits that are not judged relevant, and random passages."""

    MARGIN: ClassVar = 3.0
    """Of sentence-transformers' MS MARCO recipe, on the logits of a cross-encoder."""

    candidates: Literal["bm25", "dense"] = "bm25"
    """Where hits are from: BM25, or exact search with a model by its own similarity, as for a
    second round with a model of the first."""

    dense_model: str | None = Field(None, min_length=1)
    """Model of dense candidates: a folder, such as `model` of a finished run, or a name that is
    looked up as `encoder.base` is. It reads texts as it was saved to."""

    dense_model_revision: str | None = Field(None, min_length=1)
    """Commit, branch or tag of it on the Hub; none means its main branch."""

    dense_model_sha256: Sha256 | None = None
    """Digest of its weight file; another file is refused."""

    method: Literal["lucene", "robertson", "atire", "bm25l", "bm25+"] = "lucene"
    """BM25 variant, by the name bm25s gives it."""

    k1: float = Field(0.9, gt=0)
    """Term-frequency saturation; 0.9 is Anserini's value for MS MARCO passages."""

    b: float = Field(0.4, ge=0, le=1)
    """Length normalisation; 0.4 is Anserini's value for MS MARCO passages."""

    stemmer: Literal[_North, _South, _Europe, _Europe2, _World, _Other] = "english"
    """Snowball stemmer applied to passages and queries."""

    stopwords: STOPWORDS = "english"
    """Stop words left out of passages and queries; where a stemmer alone is named, those of its
    language or, as bm25s has no list of it, none."""

    depth: int = Field(100, ge=1)
    """Hits considered for each query."""

    skip_top: int = Field(0, ge=0)
    """Best hits left out, where unjudged positives hide."""

    negatives_per_query: int = Field(2, ge=1)
    """Negatives in a training row."""

    hard_share: float = Field(0.5, ge=0, le=1)
    """Share of the negatives drawn from the hits; the rest are random passages."""

    max_score_ratio: float | None = Field(None, gt=0)
    """Leave out hits whose BM25 score is this share of the positive's or more, as they may answer
    the query too; 0.95 is TopK-PercPos of NV-Retriever (arXiv:2407.15831). None leaves none out."""

    near_duplicate: float | None = Field(None, gt=0, le=1)
    """Leave out hits that share this much of their words with a relevant passage (Jaccard); those
    with all words in the same order are always left out. None leaves no others out."""

    rescore: Literal["none", "cross-encoder", "dense"] = "none"
    """Leave out hits that another model scores above the positive's score less a margin: by the
    logit of a cross-encoder, or by a dense model's own similarity."""

    rescore_model: str | None = Field(None, min_length=1)
    """Model of that score: a folder, or a name in the Hub cache or on the Hub."""

    rescore_model_revision: str | None = Field(None, min_length=1)
    """Commit, branch or tag of it on the Hub; none means its main branch."""

    rescore_model_sha256: Sha256 | None = None
    """Digest of its weight file; another file is refused."""

    rescore_margin: float = Field(MARGIN, ge=0)
    """What a hit's score has to lie below the positive's, on the model's scale: logits, minus
    distances, cosines (which need far less than the default) or dot products; 0 keeps hits that
    score as the positive does."""

    @model_validator(mode="before")
    @classmethod
    def _stop_words_match(cls, values: Any) -> Any:  # noqa: ANN401
        if not isinstance(values, dict) or values.get("stemmer", "none") in ("none", "english"):
            return values
        language = str(values["stemmer"]).removesuffix("_porter").replace("porter", "english")
        known = {name for some in (_North, _South) for name in get_args(some)}
        return {"stopwords": language if language in known else "none"} | values

    @model_validator(mode="after")
    def _models_are_named(self) -> Self:
        for key, without, name in (
            ("candidates", "bm25", "dense_model"),
            ("rescore", "none", "rescore_model"),
        ):
            chosen, model = getattr(self, key), getattr(self, name)
            if chosen != without and model is None:
                raise ValueError(f"{key} '{chosen}' needs {name}")
            if chosen == without and model is not None:
                raise ValueError(f"{name} does nothing while {key} is '{without}'")
            for pin in (f"{name}_revision", f"{name}_sha256"):
                if getattr(self, pin) is not None and model is None:
                    raise ValueError(f"{pin} does nothing without {name}")
        return self

    @model_validator(mode="after")
    def _models_do_something(self) -> Self:
        if self.rescore == "none" and self.rescore_margin != self.MARGIN:
            raise ValueError("rescore_margin does nothing while rescore is 'none'")
        if self.hard_share == 0 and (self.rescore != "none" or self.candidates == "dense"):
            raise ValueError("hard_share 0 draws no hits: candidates and rescore do nothing")
        if self.candidates == "dense" and self.max_score_ratio is not None:
            raise ValueError(
                "max_score_ratio is a share of a BM25 score, and a share of a distance means "
                "nothing: with candidates 'dense', use rescore 'dense' and rescore_margin"
            )
        return self

    @model_validator(mode="after")
    def _hits_remain(self) -> Self:
        if self.depth - self.skip_top < self.negatives_per_query:
            raise ValueError(
                f"depth {self.depth} less skip_top {self.skip_top} leaves too few hits for "
                f"negatives_per_query {self.negatives_per_query}"
            )
        return self
