"""The training loop against its bare arithmetic: one epoch of a 3-convolution CNN over 50,000 CIFAR-shaped images.

The epoch goes through `training.train` as users run it: uint8 rows gathered per batch, normalised, AdamW, the loss read
for the history. The reference is forward and backward alone, on batches that were normalised beforehand.
"""

from __future__ import annotations

import argparse
import itertools
import statistics

import numpy as np
import torch
from timing import report, seconds
from torch import nn
from torch.nn import functional as F

from l2d_utils import agents, data, training

BATCH = 128


class SmallCNN(agents.ImageClassifier):
    """Three 3 x 3 convolutions with batch norm, pooled; for 32 x 32 colour images."""

    def __init__(self):
        layers, widths = [], (3, 32, 64, 64)
        for inputs, width in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2) if len(layers) < 8 else nn.AdaptiveAvgPool2d(1))
        super().__init__(nn.Sequential(*layers, nn.Flatten()), 64, 10, 0.5, 0.25)


def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's training images where they are present, else made-up ones of the same shape."""
    if "cifar10" in data.available_images():
        found = data.load_images("cifar10")
        train = np.flatnonzero(~found.test)[:rows]
        return found.images[train], found.labels[train]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, rows)


def network() -> SmallCNN:
    with agents.seeded(0):
        return SmallCNN()


def epoch(pixels: np.ndarray, labels: np.ndarray) -> None:
    loss = training.classification_loss(labels)
    training.train(network(), pixels, loss, epochs=1, batch_size=BATCH, random_state=0, device="cpu")


def bare(rows: int, batches: list[tuple[torch.Tensor, torch.Tensor]], net: SmallCNN) -> None:
    for i in range(-(-rows // BATCH)):
        x, y = batches[i % len(batches)]
        net.zero_grad()
        F.cross_entropy(net.head(net.body(x)), y).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    pixels, labels = images(arguments.rows)
    net = network().to(memory_format=torch.channels_last).train()
    batches = []
    for start in range(0, min(len(pixels), 20 * BATCH) - BATCH + 1, BATCH):
        x = torch.from_numpy(pixels[start : start + BATCH].copy())
        batches.append(
            (agents.to_input(x, torch.float32, 0.5, 0.25), torch.from_numpy(labels[start : start + BATCH].copy()))
        )
    epoch(pixels[: 10 * BATCH], labels[: 10 * BATCH]), bare(10 * BATCH, batches, net)  # warm-up
    pairs = [
        (seconds(lambda: epoch(pixels, labels)), seconds(lambda: bare(len(pixels), batches, net)))
        for _ in range(arguments.repeats)
    ]
    ratio = statistics.median(ours / reference for ours, reference in pairs)
    threads = torch.get_num_threads()
    report(f"time, one epoch of {len(pixels):,} images against forward and backward ({threads} threads)", ratio, 1.3)
    ours, reference = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"  ({ours:.1f} s, {len(pixels) / ours:,.0f} images/s; bare {reference:.1f} s)")


if __name__ == "__main__":
    main()
