"""Embeddings: a plain mean over tokens, unit length, independent of batching; TF-IDF fitted on train only."""

import numpy as np
import pytest

from l2d_utils import text

PROMPTS = [
    "What is 2 + 2?",
    "Write a poem about the sea.",
    "naïve 東京 🙂",
    "word " * 400,
    "",
    "<script>alert(1)</script>",
]


def test_equals_the_mean_over_tokens_one_prompt_at_a_time():
    tokenizer, vectors = text._model()
    got = text.embed(PROMPTS)
    assert got.shape == (6, 256) and got.dtype == np.float64
    for prompt, row in zip(PROMPTS, got, strict=True):
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        mean = vectors[ids].mean(axis=0) if ids else np.zeros(256)
        assert np.allclose(row, mean / (np.linalg.norm(mean) or 1), atol=1e-12)


def test_unit_length_and_zero_for_an_empty_prompt():
    lengths = np.linalg.norm(text.embed(PROMPTS), axis=1)
    assert lengths == pytest.approx([1, 1, 1, 1, 0, 1])
    assert text.embed([]).shape == (0, 256)


def test_batching_changes_nothing(monkeypatch):
    whole = text.embed(PROMPTS)
    monkeypatch.setattr(text, "BATCH_CHARACTERS", 150)
    assert len(list(text._batches(PROMPTS))) > 2
    assert np.array_equal(text.embed(PROMPTS), whole)
    order = [3, 0, 5, 1, 2, 4]
    assert np.array_equal(text.embed([PROMPTS[i] for i in order]), whole[order])


def test_meaning_shows():
    a, b, c = text.embed(["How do I sort a list in Python?", "Python code that sorts an array", "The weather in Paris"])
    assert a @ b > a @ c + 0.1


@pytest.mark.parametrize(
    ("prompts", "message"), [("one text", "list of texts"), (["a", None], "row 1"), (["a", 3.0], "row 1")]
)
def test_errors(prompts, message):
    with pytest.raises(TypeError, match=message):
        text.embed(prompts)


def test_tfidf_is_fitted_on_the_training_prompts_only():
    train = [f"{a} {b} question" for a in ("math", "history", "code") for b in ("easy", "hard", "long")]
    first, other = text.embed_tfidf(train, ["math easy", "unseen words only"], 4, 0)
    again, _ = text.embed_tfidf(train, ["something", "else"], 4, 0)
    assert first.shape == (9, 4) and other.shape == (2, 4)
    assert np.array_equal(first, again)
    assert np.linalg.norm(other, axis=1) == pytest.approx([1, 0])
    with pytest.raises(ValueError, match="dim"):
        text.embed_tfidf(train, [], 100, 0)
