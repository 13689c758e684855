"""Fixed predictors: simulated class specialists, small image classifiers whose features a router can use."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def imbalanced_homes(n_classes: int, shares: Sequence[float] = (0.7, 0.2, 0.1)) -> tuple[tuple[int, ...], ...]:
    """Consecutive classes for each expert, in these shares: the imbalance of MILD's image study.  [reconstructed]

    Raises:
        ValueError: the shares do not sum to 1, or leave an expert without a class.

    Example:
        >>> imbalanced_homes(10)
        ((0, 1, 2, 3, 4, 5, 6), (7, 8), (9,))
    """
    shares = np.asarray(shares, dtype=np.float64)
    if shares.ndim != 1 or not np.all(shares > 0) or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(f"shares must be positive and sum to 1; found {shares.tolist()}")
    ends = np.round(np.cumsum(shares) * n_classes).astype(int)
    homes = tuple(tuple(range(a, b)) for a, b in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    if () in homes:
        lacking = homes.index(())
        raise ValueError(f"shares {shares.tolist()} of {n_classes} classes leave expert {lacking} without a class")
    return homes


def specialist(
    labels: np.ndarray, home: Collection[int], n_classes: int, *, accuracy: float = 1.0,
    elsewhere: float | None = None, random_state: int,
) -> np.ndarray:  # fmt: skip
    """Answers int64 (n,) of a simulated expert to inputs with labels (n,) in 0..n_classes−1.  [reconstructed]

    It is right with probability `accuracy` on its `home` classes and `elsewhere` on the others (None is 1/n_classes, a
    uniform guess). Wrong answers are uniform over the other classes. The draws do not depend on the two accuracies:
    raising one only turns wrong answers right.

    Raises:
        ValueError: a label or home class out of range (row named), a probability outside [0, 1].

    Example:
        >>> specialist([0, 1, 2, 9, 9], home=(0, 1, 2), n_classes=10, random_state=0)
        array([0, 1, 2, 9, 8])
    """
    labels = np.asarray(labels)
    home = sorted({int(c) for c in home})
    elsewhere = 1 / n_classes if elsewhere is None else elsewhere
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers (n,); found {labels.dtype} {labels.shape}")
    if len(rows := np.flatnonzero((labels < 0) | (labels >= n_classes))):
        raise ValueError(f"labels: row {rows[0]} is {labels[rows[0]]}, not a class in 0..{n_classes - 1}")
    if home and not 0 <= home[0] <= home[-1] < n_classes:
        raise ValueError(f"home must hold classes in 0..{n_classes - 1}; found {home}")
    for name, value in (("accuracy", accuracy), ("elsewhere", elsewhere)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1]; found {value}")
    rng = np.random.default_rng(random_state)
    luck = rng.random(len(labels))
    wrong = (labels + rng.integers(1, n_classes, len(labels))) % n_classes
    return np.where(luck < np.where(np.isin(labels, home), accuracy, elsewhere), labels, wrong).astype(np.int64)


def to_input(images: torch.Tensor, dtype: torch.dtype, mean, std) -> torch.Tensor:
    """uint8 (n, H, W, C) → dtype (n, C, H, W) in channels_last memory: (x / 255 − mean) / std."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 (n, H, W, C); found {images.dtype} {tuple(images.shape)}")
    return ((images.to(dtype) / 255 - mean) / std).permute(0, 3, 1, 2)


class ImageClassifier(nn.Module):
    """A body that turns pixels into features, and a linear head.

    Takes uint8 images (n, H, W, C), converted to the parameters' dtype and normalised inside, so that images stay uint8
    until the batch. features(x) is (n, width), forward(x) = head(features(x)) is (n, n_outputs): class logits for a
    classifier, agents' scores for a router.
    """

    def __init__(self, body: nn.Module, width: int, n_outputs: int, mean, std):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, n_outputs)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(to_input(images, self.head.weight.dtype, self.mean, self.std))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


class LeNet(ImageClassifier):
    """LeNet-5 with ReLU and max pooling, for grey 28 x 28 (or 32 x 32, ...) images; 84 features."""

    def __init__(self, channels: int = 1, n_outputs: int = 10, *, size: int = 28, mean=0.5, std=0.25):
        side = (size // 2 - 4) // 2
        body = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        )  # fmt: skip
        super().__init__(body, 84, n_outputs, mean, std)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a parameter-free shortcut (strided, zero channels added: option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first, self.second = _conv(inputs, outputs, stride), _conv(outputs, outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)


class ResNet(ImageClassifier):
    """The CIFAR ResNet of He et al. (2016) with depth 6n + 2 (8, 20, 32, ...); 4·width features.  [prior]"""

    def __init__(self, depth: int = 8, channels: int = 3, n_outputs: int = 10, *, width: int = 16, mean=0.5, std=0.25):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (8, 14, 20, 32, ...); found {depth}")
        blocks, inputs = [], width
        for stage in range(3):
            for i in range((depth - 2) // 6):
                blocks.append(_Block(inputs, width << stage, 2 if stage and not i else 1))
                inputs = width << stage
        body = nn.Sequential(_conv(channels, width), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(body, inputs, n_outputs, mean, std)


@contextlib.contextmanager
def seeded(random_state: int) -> Iterator[None]:
    """Torch draws inside a `with` block depend on random_state alone; the global generator is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(random_state)
        yield


def default_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; by default CUDA where there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def channel_moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of uint8 (n, H, W, C), on the scale 0..1."""
    channels = images.reshape(-1, images.shape[-1]).T
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels]) / channels.shape[1]
    levels = np.arange(256) / 255
    mean = counts @ levels
    return mean.tolist(), np.sqrt(np.maximum(counts @ levels**2 - mean**2, 1e-12)).tolist()


def outputs(
    module: ImageClassifier, images: np.ndarray, *, batch_size: int = 500, device: str | torch.device | None = None
) -> dict[str, np.ndarray]:
    """Logits (n, n_outputs) and features (n, width) of uint8 images (n, H, W, C), float64.

    Evaluation mode, in the module's own dtype; the module's mode is put back afterwards.

    Example:
        >>> found = outputs(LeNet(), np.zeros((2, 28, 28, 1), dtype=np.uint8))
        >>> {name: array.shape for name, array in found.items()}
        {'logits': (2, 10), 'features': (2, 84)}
    """
    if not len(images):
        raise ValueError("images must have at least one row")
    device = default_device(device)
    module.to(device)
    was_training = module.training
    module.eval()
    parts = []
    try:
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
                features = module.features(batch)
                parts.append([a.double().cpu().numpy() for a in (module.head(features), features)])
    finally:
        module.train(was_training)
    return dict(zip(("logits", "features"), map(np.concatenate, zip(*parts, strict=True)), strict=True))
