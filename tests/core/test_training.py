"""The training loop learns, is deterministic, resumes bitwise, stops on a bad loss."""

import numpy as np
import pytest
import torch
from torch import nn

from l2d_utils import agents, training

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 120)
# class k has a bright row k: easily told apart
IMAGES = RNG.integers(0, 120, (120, 8, 8, 1), dtype=np.uint8)
IMAGES[np.arange(120), LABELS] += 100
LOSS = training.classification_loss(LABELS)


class Tiny(agents.ImageClassifier):
    def __init__(self):
        body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
        super().__init__(body, 4 * 36, 3, 0.5, 0.25)


def tiny():
    with agents.seeded(0):
        return Tiny()


def fit(module=None, **options):
    module = module or tiny()
    settings = {"epochs": 4, "batch_size": 25, "lr": 0.01, "random_state": 0, "device": "cpu"} | options
    return module, training.train(module, IMAGES, settings.pop("batch_loss", LOSS), **settings)


def same(a, b):
    return all(torch.equal(x, b.state_dict()[k]) for k, x in a.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_learns_in_either_precision(dtype):
    module, losses = fit(dtype=dtype)
    predictions = agents.outputs(module, IMAGES, device="cpu")["logits"].argmax(axis=1)
    assert (predictions == LABELS).mean() > 0.95
    assert losses[-1] < losses[0] / 2 and len(losses) == 4
    assert module.head.weight.dtype == dtype and not module.training


def test_bfloat16_autocast_computes_the_loss_in_the_parameters_precision():
    seen = []

    def loss(outputs, rows):
        seen.append(outputs.dtype)
        return LOSS(outputs, rows)

    _, losses = fit(batch_loss=loss, autocast=torch.bfloat16, epochs=2)
    assert set(seen) == {torch.float32} and losses[1] < losses[0]


def test_deterministic_per_seed_and_global_state_does_not_matter():
    torch.manual_seed(1)
    first, losses = fit()
    torch.manual_seed(2)
    torch.rand(7)
    again, losses_again = fit()
    other, _ = fit(random_state=1)
    assert same(first, again) and losses == losses_again
    assert not same(first, other)


def test_every_row_is_seen_once_an_epoch_in_even_batches():
    seen = []

    def loss(outputs, rows):
        seen.append(rows.numpy())
        return LOSS(outputs, rows)

    fit(batch_loss=loss, epochs=1, batch_size=50)
    assert [len(rows) for rows in seen] == [40, 40, 40]
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(120))


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_run_resumes_bitwise(tmp_path, stop_after):
    def interrupt(epoch, loss, speed):
        if epoch + 1 == stop_after:
            raise KeyboardInterrupt

    options = {"augment": training.flip_and_shift}
    whole, losses = fit(**options)
    path = tmp_path / "runs" / "a.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(**options, checkpoint=path, progress=interrupt)
    epochs = []
    resumed, resumed_losses = fit(**options, checkpoint=path, progress=lambda e, *_: epochs.append(e))
    assert epochs == list(range(stop_after, 4))
    assert same(whole, resumed)
    assert losses == resumed_losses
    finished, _ = fit(**options, checkpoint=path, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert same(whole, finished)
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"]


def test_another_runs_checkpoint_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    fit(checkpoint=path, epochs=1)
    for change, named in [
        ({"epochs": 2}, "epochs"),
        ({"epochs": 1, "lr": 0.02}, "lr"),
        ({"epochs": 1, "batch_loss": training.classification_loss((LABELS + 1) % 3)}, "loss"),
    ]:
        with pytest.raises(ValueError, match=f"another run: {named} is"):
            fit(checkpoint=path, **change)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        fit(checkpoint=path, epochs=1)


def test_a_non_finite_loss_names_epoch_and_batch():
    calls = []

    def loss(outputs, rows):
        calls.append(1)
        return LOSS(outputs, rows) * (float("nan") if len(calls) == 8 else 1.0)

    with pytest.raises(FloatingPointError, match="nan at epoch 1, batch 2"):
        fit(batch_loss=loss)  # five batches an epoch


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "epochs"), ({"batch_size": 0}, "batch_size"), ({"lr": float("inf")}, "lr")],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_images_must_be_uint8():
    with pytest.raises(ValueError, match="uint8"):
        training.train(tiny(), IMAGES / 255, LOSS, epochs=1, random_state=0)


def test_augmentation_only_moves_and_mirrors():
    images = torch.from_numpy(np.random.default_rng(1).integers(1, 256, (200, 6, 6, 3), dtype=np.uint8))
    before = images.clone()
    moved = training.flip_and_shift(images, torch.Generator().manual_seed(0), shift=2)
    assert torch.equal(images, before) and moved.shape == images.shape and moved.dtype == torch.uint8
    padded = torch.zeros(200, 10, 10, 3, dtype=torch.uint8)
    padded[:, 2:8, 2:8] = images
    mirrored = []
    for i in range(200):
        windows = {
            (flip, r, c): (window.flip(1) if flip else window)
            for r in range(5) for c in range(5) for flip in (False, True)
            for window in [padded[i, r : r + 6, c : c + 6]]
        }  # fmt: skip
        found = [key for key, window in windows.items() if torch.equal(window, moved[i])]
        assert found
        mirrored.append(found[0][0])
    assert 60 < sum(mirrored) < 140
    assert torch.equal(training.flip_and_shift(images, torch.Generator().manual_seed(0), shift=2), moved)


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [training.one_cycle(p) for p in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[20] == pytest.approx(1) and rates[-1] < 1e-12
    assert all(np.diff(rates[:21]) > 0) and all(np.diff(rates[20:]) < 0)


def test_the_progress_bar_follows(capsys):
    fit(progress=training.progress_bar(4, "tiny"))
    assert "images/s" in capsys.readouterr().err
