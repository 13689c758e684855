"""One training loop for everything trained from pixels: classifiers (agents) and routers."""

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from l2d_utils.agents import ImageClassifier, channel_moments, default_device, outputs, seeded
from l2d_utils.results import write_atomically

BatchLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def classification_loss(labels: np.ndarray) -> BatchLoss:
    """Mean cross-entropy (nats) against labels int64 (n,), as `train` wants it."""
    targets = torch.as_tensor(np.array(labels, dtype=np.int64))
    return lambda logits, rows: F.cross_entropy(logits, targets[rows].to(logits.device))


def flip_and_shift(images: torch.Tensor, generator: torch.Generator, *, shift: int = 4) -> torch.Tensor:
    """Light augmentation of uint8 (n, H, W, C): mirror half of them, move each by up to `shift` pixels."""
    n, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, shift, shift, shift, shift))
    top, left = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def one_cycle(progress: float) -> float:
    """Learning rate as a share of its peak: linear from 0.1 to 1 in the first fifth, then cosine to 0."""
    if progress < 0.2:
        return 0.1 + 0.9 * progress / 0.2
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.2) / 0.8))


def train(
    module: ImageClassifier, images: np.ndarray, batch_loss: BatchLoss, *, epochs: int, batch_size: int = 128,
    lr: float = 3e-3, weight_decay: float = 0.01, random_state: int, dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None, device: str | torch.device | None = None,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    progress: Callable[[int, float, float], None] | None = None, checkpoint: str | Path | None = None,
) -> list[float]:  # fmt: skip
    """Train a module in place with AdamW under a one-cycle learning rate; the mean training loss per epoch.

    Deterministic per random_state (the initial weights are the caller's: `seeded`). ValueError: bad settings, or
    another run's checkpoint. FloatingPointError: a loss that is not finite (epoch and batch named).

    images: uint8 (n, H, W, C). batch_loss: (outputs (b, K) of `dtype`, int64 row numbers (b,) on the CPU) → scalar mean
    loss. dtype: of the parameters; autocast=torch.bfloat16 runs the network (not the loss) in lower precision. augment:
    (batch uint8, generator) → batch uint8, on the CPU. progress: is called after every epoch with epoch, loss and
    images per second. checkpoint: file that keeps the state after every epoch, one per run. A run that finds its own
    goes on from there, and ends bitwise where an uninterrupted one does.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(f"images must be uint8 (n, H, W, C) with n >= 1; found {images.dtype} {images.shape}")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1; found {value!r}")
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be finite and > 0; found {lr!r}")
    device = default_device(device)
    module.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    losses, n_batches = [], math.ceil(len(images) / batch_size)
    if checkpoint is not None:
        # the loss of fixed made-up outputs tells labels, costs or losses apart
        made_up = np.random.default_rng(0).standard_normal((len(images), module.head.out_features))
        made_up = torch.as_tensor(made_up, dtype=dtype, device=device)
        settings = {
            "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay,
            "random_state": random_state, "dtype": str(dtype), "autocast": str(autocast),
            "augmented": augment is not None, "images": hashlib.sha256(np.ascontiguousarray(images)).hexdigest(),
            "parameters": [list(p.shape) for p in module.parameters()],
            "loss": float(batch_loss(made_up, torch.arange(len(images)))),
        }  # fmt: skip
        if Path(checkpoint).is_file():
            state = _read_checkpoint(Path(checkpoint), settings, device)
            module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
            losses = state["losses"]

    for epoch in range(len(losses), epochs):
        started = time.perf_counter()
        # every epoch draws from generators of its own: only (random_state, epoch) decides, resumed or not
        seed = int(np.random.SeedSequence([random_state, epoch]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        batches = torch.randperm(len(images), generator=generator).tensor_split(n_batches)  # even sizes, no tiny last
        module.train()
        total = 0.0
        with seeded(seed):  # dropout and the like
            for i, rows in enumerate(batches):
                batch = torch.from_numpy(images[rows.numpy()])
                if augment is not None:
                    batch = augment(batch, generator)
                for group in optimizer.param_groups:
                    group["lr"] = lr * one_cycle((epoch * n_batches + i) / (epochs * n_batches))
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    result = module(batch.to(device))
                loss = batch_loss(result.to(dtype), rows)
                value = loss.item()
                if not math.isfinite(value):
                    where = f"at epoch {epoch}, batch {i} (both from 0)"
                    raise FloatingPointError(f"the loss is {value} {where}: lower lr={lr} or check the costs")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += value * len(rows)
        losses.append(total / len(images))
        speed = len(images) / (time.perf_counter() - started)
        if checkpoint is not None:
            _write_checkpoint(Path(checkpoint), settings, module, optimizer, losses)
        if progress is not None:
            progress(epoch, losses[-1], speed)
    module.eval()
    return losses


def classifier_outputs(
    images: np.ndarray, labels: np.ndarray, out_images: np.ndarray, *, network: Callable[..., nn.Module],
    n_classes: int, random_state: int, checkpoint: str | Path | None = None, **settings,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Train a classifier on images and labels (n,): its `agents.outputs` on `out_images` (m, H, W, C), of its dtype.

    network: makes the untrained classifier from n_outputs, mean and std (of the training pixels). settings: of `train`;
    with a checkpoint it is part of a long study and shows a progress bar.
    """
    mean, std = channel_moments(images)
    with seeded(random_state):
        module = network(n_outputs=n_classes, mean=mean, std=std)
    if checkpoint is not None:
        settings = {"progress": progress_bar(settings["epochs"], f"classifier on {len(images)} images"), **settings}
    loss = classification_loss(labels)
    train(module, images, loss, random_state=random_state, checkpoint=checkpoint, **settings)
    dtype = next(module.parameters()).numpy(force=True).dtype
    return {what: array.astype(dtype) for what, array in outputs(module, out_images).items()}


def progress_bar(epochs: int, description: str = "") -> Callable[[int, float, float], None]:
    """A tqdm bar for the `progress` of `train`, with the loss and images per second."""
    from tqdm.auto import tqdm

    bar = tqdm(total=epochs, desc=description, unit="epoch")

    def update(epoch: int, loss: float, images_per_second: float) -> None:
        bar.update(epoch + 1 - bar.n)
        bar.set_postfix_str(f"loss {loss:.3f}, {images_per_second:,.0f} images/s")
        if epoch + 1 == epochs:
            bar.close()

    return update


def _write_checkpoint(path: Path, settings: dict[str, Any], module, optimizer, losses: list[float]) -> None:
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: torch.save(state | {"settings": settings, "losses": losses}, temporary))


def _read_checkpoint(path: Path, settings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        stored = state["settings"]
    except Exception as error:  # torch raises many kinds on a damaged file
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__}): delete it") from None
    for name, value in settings.items():
        there = stored.get(name, math.nan)
        if not (math.isclose(there, value, rel_tol=1e-5) if name == "loss" else there == value):
            raise ValueError(
                f"{path} belongs to another run: {name} is {there!r} there and {value!r} here; "
                "give each run a checkpoint of its own, or delete this one"
            )
    return state
