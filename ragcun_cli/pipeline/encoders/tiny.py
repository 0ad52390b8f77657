"""A transformer of some 28,000 random weights, so that the whole road can be walked in seconds.

Its word pieces are letters and letter pairs, and it was never trained: what it retrieves by is
spelling, and its scores mean nothing.
"""

from __future__ import annotations

import string
from pathlib import Path
from tempfile import TemporaryDirectory

from ragcun_cli.core.folders import whole_folder
from ragcun_cli.pipeline.machine.stops import locked

TINY_ENCODER = "ragcun/tiny"


def build_tiny_encoder(folder: Path) -> None:
    """Write a 2-layer BERT of width 32 with mean pooling, from seed 0, in this folder.

    Several processes may ask for it at once: one writes it, and the others wait.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _write_tiny_encoder(folder)


def _write_tiny_encoder(folder: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *string.punctuation]
    pieces += [f"##{text}" for text in (*letters, *(a + b for a in letters[:26] for b in "aeiou"))]
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab={piece: row for row, piece in enumerate(pieces)},
            unk_token="[UNK]",
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with whole_folder(folder) as draft, TemporaryDirectory() as bert:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            BertModel(config).save_pretrained(bert)
        fast.save_pretrained(bert)
        transformer = Transformer(bert, max_seq_length=64)
        # It would be saved, and is another one where HF_HUB_OFFLINE is set.
        transformer.tokenizer.init_kwargs["local_files_only"] = False
        pooling = Pooling(transformer.get_embedding_dimension(), "mean")
        model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
        model.save(str(draft), create_model_card=False)
