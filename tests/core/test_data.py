"""Data in: shapes, checksums, splits, joins, and one clear error for each kind of bad input."""

import gzip
import hashlib
import io
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from l2d_utils import data

NO_DATA_DIR = not os.environ.get("L2D_DATA_DIR")


# ---------------------------------------------------------------- embedded


def test_mnist5k():
    mnist = data.load_images("mnist5k")
    assert mnist.images.shape == (5000, 28, 28, 1) and mnist.images.dtype == np.uint8
    assert np.bincount(mnist.labels).tolist() == [500] * 10
    assert mnist.test is None and "5,000 MNIST digits" in mnist.source
    assert mnist.images.max() == 255


def test_digits_equal_scikit_learns_own():
    from sklearn.datasets import load_digits

    ours, theirs = data.load_images("digits"), load_digits()
    assert np.array_equal(ours.labels, theirs.target)
    assert np.abs(ours.images[..., 0] / 255 * 16 - theirs.images).max() <= 16 / 255 / 2 + 1e-12


def test_arrays_are_read_only_and_cached():
    first = data.load_images("digits")
    with pytest.raises(ValueError, match="read-only"):
        first.images[0] = 0
    assert data.load_images("digits") is first


def test_a_changed_file_names_file_expected_and_found(tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(data.DataError) as error:
        data.read_checked(path)
    for part in (str(path), data.CHECKSUMS["val.jsonl"], hashlib.sha256(b"{}\n").hexdigest()):
        assert part in str(error.value)


def test_checksum_is_of_the_uncompressed_contents(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"abc", compresslevel=1, mtime=5))
    assert data.read_checked(path, hashlib.sha256(b"abc").hexdigest()) == b"abc"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(data.DataError, match="gzip"):
        data.read_checked(path)


def test_a_missing_package_and_file_say_what_to_install():
    with pytest.raises(FileNotFoundError, match="no_such_package_here"):
        data.package_file("no_such_package_here", "x")
    with pytest.raises(FileNotFoundError, match="reinstall"):
        data.package_file("mlxtend", "no/such/file")


def test_paretobandit():
    table = data.load_routing("paretobandit")
    assert table.scores.shape == table.dollars.shape == (3609, 3) and len(table.prompts) == 3609
    assert {s: int(np.sum(table.split == s)) for s in ("validation", "test")} == {
        "validation": 1785,
        "test": 1824,
    }
    assert table.agents[0] == "meta-llama/llama-3.1-8b-instruct"
    assert np.all(np.diff(table.dollars.mean(axis=0)) > 0)  # small, large, larger model
    assert "judge model" in table.source
    assert set(table.prompts[:1785]).isdisjoint(table.prompts[1785:])


# ---------------------------------------------------------------- image folders


def _png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _image_table(rng, n, part, label="label", shape=(8, 8, 3)):
    pixels = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    cells = [{"bytes": _png(p), "path": f"{part}/{i}.png"} for i, p in enumerate(pixels)]
    return pixels, pd.DataFrame({"img": cells, label: np.arange(n) % 3})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("L2D_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("label", "shape"), [("label", (8, 8, 3)), ("fine_label", (8, 8))])
def test_parquet_images_round_trip(folder, label, shape):
    rng = np.random.default_rng(0)
    (folder / "toy").mkdir()
    train, train_frame = _image_table(rng, 9, "train", label, shape)
    test, test_frame = _image_table(rng, 6, "test", label, shape)
    train_frame[:5].to_parquet(folder / "toy/train-00000-of-00002.parquet")
    train_frame[5:].to_parquet(folder / "toy/train-00001-of-00002.parquet")
    test_frame.to_parquet(folder / "toy/test-00000-of-00001.parquet")
    toy = data.load_images("toy")
    assert np.array_equal(toy.images.reshape(15, *shape), np.concatenate([train, test]))
    assert toy.test.tolist() == [False] * 9 + [True] * 6
    assert toy.classes == ("0", "1", "2") and "9 training and 6 test" in toy.source
    assert "toy" in data.available_images()


def test_npz_images(folder):
    rng = np.random.default_rng(0)
    parts = {}
    for part, n in (("train", 6), ("val", 2), ("test", 4)):
        parts[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        parts[f"{part}_labels"] = np.arange(n)[:, None] % 2
    np.savez(folder / "toymnist.npz", **parts)
    toy = data.load_images("toymnist")
    assert toy.images.shape == (12, 28, 28, 1) and toy.test.sum() == 4 and toy.labels.ndim == 1


def test_image_errors_name_the_file(folder):
    with pytest.raises(FileNotFoundError, match="nothere"):
        data.load_images("nothere")
    with pytest.raises(ValueError, match="name must"):
        data.load_images("../secret")
    (folder / "bad").mkdir()
    (folder / "bad/train.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(FileNotFoundError, match=r"test\*.parquet"):
        data.load_images("bad")
    (folder / "bad/test.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(data.DataError, match="bad/train.parquet"):
        data.load_images("bad")
    _, frame = _image_table(np.random.default_rng(0), 3, "train")
    frame.to_parquet(folder / "bad/test.parquet")
    frame.at[1, "img"] = {"bytes": b"junk", "path": "x"}
    frame.to_parquet(folder / "bad/train.parquet")
    with pytest.raises(data.DataError, match="row 1"):
        data.load_images("bad")
    (folder / "worse.npz").write_bytes(b"PK junk")
    with pytest.raises(data.DataError, match="worse.npz"):
        data.load_images("worse")


def test_without_data_dir_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="L2D_DATA_DIR"):
        data.load_images("cifar10")
    with pytest.raises(FileNotFoundError, match="L2D_DATA_DIR"):
        data.load_human_labels()
    assert data.available_images()[:2] == ("mnist5k", "digits")


def _human_folder(folder, change=lambda frame: frame):
    (folder / "cifar10").mkdir(exist_ok=True)
    _, train = _image_table(np.random.default_rng(0), 12, "train")
    _, test = _image_table(np.random.default_rng(1), 3, "test")
    train.to_parquet(folder / "cifar10/train.parquet")
    test.to_parquet(folder / "cifar10/test.parquet")
    humans = pd.DataFrame({"path": [cell["path"] for cell in train["img"]], "label": train["label"]})
    for j in (1, 2, 3):
        humans[f"human_{j}"] = (np.arange(12) * j) % 10
    humans["human_aggregate"] = np.arange(12) % 10
    change(humans).to_parquet(folder / "cifar10/cifar10n_humans.parquet")


def test_human_labels_are_joined_on_the_path_not_on_the_order(folder):
    _human_folder(folder)
    straight = data.load_human_labels()
    _human_folder(folder, lambda frame: frame.sample(frac=1, random_state=3))
    shuffled = data.load_human_labels()
    assert straight.labels.shape == (12, 3) and straight.labels[:, 1].tolist() == [2 * i % 10 for i in range(12)]
    assert np.array_equal(straight.labels, shuffled.labels)
    assert np.array_equal(straight.aggregate, shuffled.aggregate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[1:], "no row for 1 of 12"),
        (lambda f: pd.concat([f, f[:1]]), "more than one row"),
        (lambda f: f.assign(label=f["label"].where(f.index != 4, 9)), "has label 9, but 1"),
        (lambda f: f.drop(columns="human_2"), "human_2"),
    ],
)
def test_human_label_join_errors(folder, change, message):
    _human_folder(folder, change)
    with pytest.raises(data.DataError, match=message):
        data.load_human_labels()


@pytest.mark.skipif(NO_DATA_DIR, reason="needs L2D_DATA_DIR with cifar10")
def test_cifar10_and_its_human_labels():
    cifar, humans = data.load_images("cifar10"), data.load_human_labels()
    train = cifar.labels[~cifar.test]
    assert cifar.images.shape == (60000, 32, 32, 3) and len(train) == 50000
    assert humans.labels.shape == (50000, 3)
    accuracy = (humans.labels == train[:, None]).mean(axis=0)
    assert accuracy == pytest.approx([0.828, 0.819, 0.824], abs=0.0006)
    assert (humans.aggregate == train).mean() > accuracy.max()
    # people agree on wrong answers far more than independent errors within a class would: rows are aligned
    first, second = humans.labels[:, 0], humans.labels[:, 1]
    both_wrong = (first != train) & (second != train)
    shuffled = second.copy()
    rng = np.random.default_rng(0)
    for c in range(10):
        rows = np.flatnonzero(train == c)
        shuffled[rows] = rng.permutation(second[rows])
    by_chance = (first != train) & (shuffled != train)
    assert (first == second)[both_wrong].mean() > (first == shuffled)[by_chance].mean() + 0.05


@pytest.mark.skipif("fashion_mnist" not in data.available_images(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist():
    fashion = data.load_images("fashion_mnist")
    assert fashion.images.shape == (70000, 28, 28, 1) and fashion.test.sum() == 10000
    assert np.bincount(fashion.labels[fashion.test]).tolist() == [1000] * 10


def test_idx_rejects_other_contents(tmp_path):
    with pytest.raises(data.DataError, match="short"):
        data.images._idx(tmp_path, b"\0\0")
    with pytest.raises(data.DataError, match="not an idx"):
        data.images._idx(tmp_path, b"\0\0\x08\x01\0\0\0\x05abc")


# ---------------------------------------------------------------- splits


def _toy(labels, test=None, n_classes=3):
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return data.ImageData(images, np.asarray(labels), test, tuple("abc"[:n_classes]), "toy", "toy", "")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(30, 200), st.sampled_from([0.1, 0.2, 9]), st.sampled_from([0.25, 12]))
def test_split_partitions_the_rows_stratified(seed, n, validation, test):
    labels = np.random.default_rng(seed).permutation(np.arange(n) % 3)
    split = data.split_images(_toy(labels), validation=validation, test=test, random_state=seed)
    parts = [split.train, split.validation, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    for part in parts:
        assert np.all(np.diff(part) > 0)
        counts = np.bincount(labels[part], minlength=3)
        assert np.abs(counts - len(part) / 3).max() <= 2  # shares kept to the nearest whole row, at each draw
    again = data.split_images(_toy(labels), validation=validation, test=test, random_state=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, [again.train, again.validation, again.test], strict=True))


def test_split_depends_on_the_seed_and_keeps_a_given_test_part():
    labels = np.arange(300) % 3
    given_test = np.arange(300) >= 200
    splits = [data.split_images(_toy(labels, given_test), validation=50, random_state=s) for s in (0, 1)]
    for split in splits:
        assert np.array_equal(split.test, np.arange(200, 300)) and len(split.validation) == 50
    assert not np.array_equal(splits[0].validation, splits[1].validation)


@pytest.mark.parametrize(
    ("labels", "test", "settings_", "message"),
    [
        ([0, 1] * 20, None, {"validation": 0.2, "test": 0.2}, r"no row of class 2 \('c'\)"),
        (
            [0, 1, 2] * 10 + [0, 1],
            [False] * 30 + [True] * 2,
            {"validation": 0.2},
            "test part of toy has no row of class 2",
        ),
        ([0, 1, 2] * 10, None, {"validation": 0.2}, "give test="),
        ([0, 1, 2] * 10, [False] * 20 + [True] * 10, {"validation": 0.2, "test": 0.2}, "test must be None"),
        ([0, 1, 2] * 10, None, {"validation": 20, "test": 10}, "no training row"),
        ([0, 1, 2] * 10, None, {"validation": 0, "test": 10}, "validation must"),
        ([0, 1, 2] * 10, None, {"validation": 5.5, "test": 10}, "validation must"),
    ],
)
def test_split_errors(labels, test, settings_, message):
    test = None if test is None else np.array(test)
    with pytest.raises(ValueError, match=message):
        data.split_images(_toy(np.array(labels), test), random_state=0, **settings_)


def test_stratified_subset_of_everything_is_everything():
    labels = np.arange(50) % 4
    assert np.array_equal(data.stratified_subset(labels, np.arange(50), 50, 0), np.arange(50))


# ---------------------------------------------------------------- routing tables


def _table(**changes):
    columns = {
        "prompt": ["a", "NA", ""],
        "score/x": [0.0, 1.0, 0.5],
        "score/y/z": [1, 0, 1],
        "cost/x": [0.1, 0.2, 0.3],
    }
    columns |= {"cost/y/z": [1.0, 2.0, 0.0], "task": ["t", "null", "u"]}
    return pd.DataFrame({k: v for k, v in (columns | changes).items() if v is not None})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_routing_round_trip(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    _table().to_csv(path, index=False) if suffix == ".csv" else _table().to_parquet(path)
    table = data.load_routing(path)
    assert table.prompts == ["a", "NA", ""] and table.agents == ("x", "y/z")
    assert table.scores.tolist() == [[0, 1], [1, 0], [0.5, 1]] and table.dollars[1].tolist() == [0.2, 2.0]
    assert table.task.tolist() == ["t", "null", "u"] and table.split is None
    assert table.name == "mine" and table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"score/x": [0.0, 1.2, 0.5]}, ["'score/x'", "row 1", "1.2"]),
        ({"score/x": [0.0, 1.0, np.nan]}, ["'score/x'", "row 2"]),
        ({"score/x": ["0", "high", "1"]}, ["'score/x'", "row 1", "high"]),
        ({"cost/x": [-0.5, 1, 1]}, ["'cost/x'", "row 0", "-0.5"]),
        ({"cost/x": [np.inf, 1, 1]}, ["'cost/x'", "row 0", "inf"]),
        ({"cost/x": None}, ["'x'", "score but no cost"]),
        ({"cost/w": [1, 1, 1]}, ["'w'", "cost but no score"]),
        ({"prompt": None}, ["'prompt'"]),
        ({"score/x": None, "cost/x": None}, ["at least two"]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_routing_errors_name_column_row_and_value(tmp_path, changes, parts, suffix):
    path = tmp_path / f"mine{suffix}"
    frame = _table(**changes)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.raises(data.DataError) as error:
        data.load_routing(path)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"prompt,score/a,score/b\n",
        b"prompt,score/a,score/a\nhi,1,0\n",
        b"prompt,score/a,score/b\nhi,1,0,7\n",
        b"prompt,score/a,score/b\nhi,1\n",
        b"prompt,score/a,score/b\nhi,1,\n",
        b"prompt,score/a,score/b\nhi,1,0\nho,1,0,5,6\n",
        b'prompt,score/a,score/b\n"hi,1,0\n',
        b"prompt,score/a,score/b\n\xff\xfe,1,0\n",
        b"\x00\x01\x02",
    ],
)
def test_malformed_csv_gives_one_clear_error(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match="mine"):
        data.load_routing(path)


def test_null_prompt_and_missing_tables(tmp_path, monkeypatch):
    with pytest.raises(data.DataError, match="row 1: text is expected"):
        data.routing_table(_table(prompt=["a", None, "b"]), name="t", source="")
    with pytest.raises(FileNotFoundError, match="nothere.csv"):
        data.load_routing(tmp_path / "nothere.csv")
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="L2D_DATA_DIR"):
        data.load_routing("llmrouter9")


@pytest.mark.skipif(NO_DATA_DIR, reason="needs L2D_DATA_DIR with routing")
@pytest.mark.parametrize(
    ("name", "n", "k"), [("llmrouter9", 5989, 9), ("routellm_mmlu", 14042, 2), ("routellm_gsm8k", 1319, 2)]
)
def test_named_routing_tables(name, n, k):
    table = data.load_routing(name)
    assert table.scores.shape == (n, k) and f"{n:,}" in table.source
