"""One thread, no windows, no committed file touched, the same examples every time."""

import os
import tempfile

# Before numpy and torch are imported: their thread pools read this once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "L2D_OUT" not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix="l2d-test-")  # lives as long as this module
    os.environ["L2D_OUT"] = _folder.name

import matplotlib
from hypothesis import settings

matplotlib.use("Agg")
collect_ignore = ["book"]  # these need the site's environment: make test-book

settings.register_profile("l2d", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("l2d")
