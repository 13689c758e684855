"""Prompts to vectors: wordllama's static embeddings, read from the package's files; TF-IDF as a fallback."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse as sp

from l2d_utils.data import package_file, read_checked

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
CHECKSUMS = {
    WEIGHTS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    TOKENIZER: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
DIM = 256
BATCH_CHARACTERS = 1_000_000  # bounds the tokens held at once, however many or long the prompts are


@functools.lru_cache(maxsize=1)
def _model():
    """(tokenizer, float64 (vocabulary, 256)). wordllama is not imported: it sets up logging for everyone."""
    import safetensors.numpy
    from tokenizers import Tokenizer

    contents = {f: read_checked(package_file("wordllama", f), sha256) for f, sha256 in CHECKSUMS.items()}
    tokenizer = Tokenizer.from_str(contents[TOKENIZER].decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, safetensors.numpy.load(contents[WEIGHTS])["embedding.weight"].astype(np.float64)


def embed(prompts: Sequence[str]) -> np.ndarray:
    """Mean of the prompt's token embeddings, scaled to length 1: float64 (n, 256).  [prior: wordllama l2_supercat]

    Equal to wordllama's own embed(prompts, norm=True) up to float32 rounding. An empty prompt gives the zero vector.
    Memory beyond the result is bounded by the longest prompt or a million characters of prompts.

    Raises:
        TypeError: a row that is no text (named).

    Example:
        >>> embed(["How do I sort a list?", "The weather in Paris"]).shape
        (2, 256)
    """
    prompts = _checked("prompts", prompts)
    result = np.zeros((len(prompts), DIM))
    if not prompts:
        return result
    tokenizer, vectors = _model()
    for rows in _batches(prompts):
        ids = [e.ids for e in tokenizer.encode_batch_fast(prompts[rows], add_special_tokens=False)]
        ends = np.concatenate([[0], np.cumsum([len(i) for i in ids])])
        tokens = np.fromiter((t for i in ids for t in i), np.int64, count=ends[-1])
        # token counts (prompts x vocabulary) @ vectors is the sum over real tokens, with no padding to mask
        counts = sp.csr_array((np.ones(len(tokens)), tokens, ends), shape=(len(ids), len(vectors)))
        result[rows] = counts @ vectors  # the mean differs by a factor that the next line removes
    return _unit(result)


def embed_tfidf(
    train_prompts: Sequence[str], other_prompts: Sequence[str], dim: int, random_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF and truncated SVD, fitted on the training prompts only: float64 (n, dim) and (m, dim).

    The fallback where wordllama's files are absent.

    Raises:
        ValueError: the training prompts are too few or too poor in words for that many dimensions.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    train_prompts, other_prompts = _checked("train_prompts", train_prompts), _checked("other_prompts", other_prompts)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    train = vectorizer.fit_transform(train_prompts)
    if not 1 <= dim < min(train.shape):
        most = min(train.shape) - 1
        raise ValueError(f"dim must be between 1 and {most} for {train.shape} prompts x words; found {dim}")
    svd = TruncatedSVD(dim, random_state=random_state).fit(train)
    other = svd.transform(vectorizer.transform(other_prompts)) if other_prompts else np.zeros((0, dim))
    return _unit(svd.transform(train)), _unit(other)


def _checked(name: str, prompts: Sequence[str]) -> list[str]:
    if isinstance(prompts, str):
        raise TypeError(f"{name} must be a list of texts; found one text: put it in a list")
    prompts = list(prompts)
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"{name}: row {row} is no text: {prompt!r}")
    return prompts


def _batches(prompts: list[str]) -> Iterator[slice]:
    start = characters = 0
    for row, prompt in enumerate(prompts):
        if row > start and characters + len(prompt) > BATCH_CHARACTERS:
            yield slice(start, row)
            start, characters = row, 0
        characters += len(prompt) + 100  # an encoding has a fixed cost too
    yield slice(start, len(prompts))


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
