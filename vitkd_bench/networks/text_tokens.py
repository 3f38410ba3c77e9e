"""The tokenizers of text towers: one that comes with open_clip, or files that have to be at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from vitkd_bench.networks.optional import optional_package
from vitkd_bench.networks.text_tower import text_config
from vitkd_bench.spec import BadInputError, DamagedFileError, Teacher, WorldError, file_sha256

FILES = ("tokenizer.json", "tokenizer_config.json")
Tokenizer = Callable[[Sequence[str]], Tensor]
"""Turns N texts into token ids (N, L) at the tower's context length."""


def tokenizer_sha256(teacher: Teacher, weights: Path) -> str | None:
    """Hash the files of a teacher's tokenizer: 64 hexadecimal digits; None for the one of open_clip itself.

    Raises:
        WorldError: they are not at hand; the message says where they were looked for and how to fetch them.
    """
    folder = _folder(teacher, weights)
    if folder is None:
        return None
    return hashlib.sha256("".join(file_sha256(folder / name) for name in FILES).encode()).hexdigest()


def read_tokenizer(teacher: Teacher, weights: Path) -> Tokenizer:
    """Make the tokenizer that the contract's text tower was trained with; nothing is fetched.

    CLIP's byte pairs come with open_clip (those of transformers are the same). Another one is read from
    `tokenizer.json` and `tokenizer_config.json`, beside the weights or in the hub's cache. Texts longer than
    the tower's context are refused: a cut text may have lost the class's name.

    Raises:
        WorldError: the files are not at hand. DamagedFileError: they cannot be read.
        BadInputError: (on use) a text too long, or an id beyond the tower's vocabulary.
    """
    open_clip = optional_package("open_clip", "open-clip-torch", teacher)
    text = text_config(teacher)["text_cfg"]
    length, vocabulary = text.get("context_length", 77), text.get("vocab_size", 49408)
    options = text.get("tokenizer_kwargs", {})
    folder = _folder(teacher, weights)
    if folder is None:
        cut = open_clip.SimpleTokenizer(**options)
    else:
        try:
            cut = open_clip.tokenizer.HFTokenizer(str(folder), local_files_only=True, **options)
        except Exception as error:  # noqa: BLE001  (a reader of Rust's raises bare exceptions on a bad file)
            why = " ".join(str(error).split())
            raise DamagedFileError(f"teacher {teacher.name!r}: tokenizer {folder}: {why}") from None

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens: Tensor = cut(list(texts), context_length=length)
        longer = cut(list(texts), context_length=length + 1)[:, :length]
        for text, own, other in zip(texts, tokens, longer, strict=True):
            if not own.equal(other):
                raise BadInputError(f"teacher {teacher.name!r}: a text of over {length} tokens: {text!r}")
        if int(tokens.max()) >= vocabulary:
            raise BadInputError(
                f"teacher {teacher.name!r}: its tokenizer gives id {int(tokens.max())}, and the text tower "
                f"of {teacher.text_encoder} knows {vocabulary}"
            )
        return tokens

    return tokenize


def _folder(teacher: Teacher, weights: Path) -> Path | None:
    """Find the folder with a tokenizer's files; None for the tokenizer that comes with open_clip."""
    repository = text_config(teacher)["text_cfg"].get("hf_tokenizer_name")
    if not repository:
        return None
    beside = weights if weights.is_dir() else weights.parent
    for folder in (beside, *_cached(repository)):
        if all((folder / name).is_file() for name in FILES):
            return folder
    raise WorldError(
        f"teacher {teacher.name!r}: a text head needs the tokenizer of {repository}, {' and '.join(FILES)}, "
        f"neither beside {weights} nor in the hub's cache: hf download {repository} {' '.join(FILES)}"
    )


def _cached(repository: str) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, FILES[0])
    return [Path(found).parent] if isinstance(found, str) else []
