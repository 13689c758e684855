"""What people answered: CIFAR-10N's labels beside the images that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l2d_utils.data.files import DataError, data_folder, digest, frozen, read_parquet
from l2d_utils.data.images import image_files

COLUMNS = ["path", "label", "human_1", "human_2", "human_3", "human_aggregate"]


@dataclass(frozen=True, eq=False)
class HumanLabels:
    """What people answered, in the order of CIFAR-10's training rows.

    Attributes:
        labels: int64 (n_train, 3).
        aggregate: int64 (n_train,).
    """

    labels: np.ndarray
    aggregate: np.ndarray
    source: str
    sha256: str


def load_human_labels() -> HumanLabels:
    """Three human labels per CIFAR-10 training image, and their aggregate.  [prior: Wei et al. 2022]

    Joined on the image's path to the training rows of `load_images("cifar10")`, in their order. The three columns are
    shuffled annotators, not three fixed people.

    Raises:
        FileNotFoundError: no such file.
        DataError: a column is missing, or a path or a label disagrees.
    """
    folder = data_folder()
    path = None if folder is None else folder / "cifar10" / "cifar10n_humans.parquet"
    if path is None or not path.is_file():
        where = "$L2D_DATA_DIR/cifar10/cifar10n_humans.parquet"
        raise FileNotFoundError(f"CIFAR-10N's human labels are expected in {where} with the columns {COLUMNS}")
    humans = read_parquet(path)
    if missing := [c for c in COLUMNS if c not in humans.column_names]:
        raise DataError(f"{path} lacks the columns {missing}; found {humans.column_names}")
    humans = humans.select(COLUMNS).to_pandas().set_index("path")
    images = [read_parquet(p, ["img", "label"]) for p in image_files(path.parent)["train"]]
    paths = [p for table in images for p in table.column("img").combine_chunks().field("path").to_pylist()]
    labels = np.concatenate([table.column("label").to_numpy() for table in images])
    if not humans.index.is_unique:
        raise DataError(f"{path}: the path {humans.index[humans.index.duplicated()][0]!r} stands in more than one row")
    if lost := set(paths) - set(humans.index):
        raise DataError(f"{path} has no row for {len(lost)} of {len(paths)} training images, e.g. {sorted(lost)[0]!r}")
    humans = humans.loc[paths]
    if len(wrong := np.flatnonzero(humans["label"].to_numpy() != labels)):
        row, found = int(wrong[0]), humans["label"].iloc[wrong[0]]
        raise DataError(f"{path}: {paths[row]!r} has label {found}, but {labels[row]} in the images")
    return HumanLabels(
        frozen(humans[["human_1", "human_2", "human_3"]].to_numpy(np.int64)),
        frozen(humans["human_aggregate"].to_numpy(np.int64)),
        f"{len(paths):,} CIFAR-10 training images with three human labels each from CIFAR-10N (CC BY-NC 4.0)",
        digest(path.read_bytes()),
    )
