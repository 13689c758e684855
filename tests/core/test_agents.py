"""Specialists have the accuracies asked for; networks have the known sizes, and outputs leave them as they were."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2d_utils import agents

LABELS = np.arange(60_000) % 10


def test_homes():
    assert agents.imbalanced_homes(10) == ((0, 1, 2, 3, 4, 5, 6), (7, 8), (9,))
    assert [len(h) for h in agents.imbalanced_homes(100, (0.9, 0.08, 0.02))] == [90, 8, 2]
    with pytest.raises(ValueError, match="expert 2 without a class"):
        agents.imbalanced_homes(10, (0.9, 0.08, 0.02))
    with pytest.raises(ValueError, match="sum to 1"):
        agents.imbalanced_homes(10, (0.5, 0.2))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_homes_partition_the_classes(n_classes, sizes):
    shares = np.array(sizes) / sum(sizes)
    try:
        homes = agents.imbalanced_homes(n_classes, shares)
    except ValueError:
        assert shares.min() * n_classes < 1
    else:
        assert [c for home in homes for c in home] == list(range(n_classes))


@pytest.mark.parametrize(("accuracy", "elsewhere"), [(1.0, None), (0.8, None), (0.9, 0.5), (0.0, 0.0)])
def test_specialist_accuracy_and_uniform_errors(accuracy, elsewhere):
    home = (0, 1, 2)
    predictions = agents.specialist(LABELS, home, 10, accuracy=accuracy, elsewhere=elsewhere, random_state=0)
    right, at_home = predictions == LABELS, np.isin(LABELS, home)
    expected = 0.1 if elsewhere is None else elsewhere
    assert right[at_home].mean() == pytest.approx(accuracy, abs=4 * 0.5 / np.sqrt(at_home.sum()))
    assert right[~at_home].mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt((~at_home).sum()))
    # chi-square of the wrong answers' offsets against the uniform distribution on the other nine classes
    offsets = np.bincount((predictions - LABELS)[~right] % 10, minlength=10)[1:]
    assert ((offsets - offsets.mean()) ** 2 / offsets.mean()).sum() < 32  # 8 degrees of freedom: p = 1e-4


def test_chance_elsewhere_is_a_uniform_guess():
    predictions = agents.specialist(LABELS, (), 10, random_state=1)
    counts = np.bincount(predictions[LABELS == 4], minlength=10)
    assert ((counts - 600) ** 2 / 600).sum() < 34  # 9 degrees of freedom: p = 1e-4


def test_higher_accuracy_only_turns_wrong_answers_right():
    low, high = (agents.specialist(LABELS, (0, 1), 10, accuracy=a, random_state=3) for a in (0.6, 0.7))
    assert np.all((low == high) | (high == LABELS)) and not np.array_equal(low, high)


@pytest.mark.parametrize(
    ("labels", "home", "options", "message"),
    [
        ([0, 10], (0,), {}, "row 1 is 10"),
        ([0.0, 1.0], (0,), {}, "integers"),
        ([0, 1], (10,), {}, "home"),
        ([0, 1], (0,), {"accuracy": 1.1}, "accuracy"),
        ([0, 1], (0,), {"elsewhere": -0.1}, "elsewhere"),
    ],
)
def test_specialist_errors(labels, home, options, message):
    with pytest.raises(ValueError, match=message):
        agents.specialist(np.array(labels), home, 10, random_state=0, **options)


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154)])
def test_resnet_has_the_parameter_count_of_the_original(depth, count):
    assert sum(p.numel() for p in agents.ResNet(depth).parameters()) == count


@pytest.mark.parametrize(
    ("build", "shape", "width"),
    [
        (lambda: agents.LeNet(), (5, 28, 28, 1), 84),
        (lambda: agents.LeNet(3, size=32, mean=(0.4, 0.5, 0.6)), (5, 32, 32, 3), 84),
        (lambda: agents.ResNet(8), (5, 32, 32, 3), 64),
    ],
)
def test_outputs_are_float64_batched_and_leave_the_module_as_it_was(build, shape, width):
    with agents.seeded(0):
        module = build()
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images.setflags(write=False)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    one = agents.outputs(module.double(), images, batch_size=2)
    whole = agents.outputs(module, images, batch_size=100)
    assert one["features"].shape == (5, width) and one["logits"].shape == (5, 10)
    assert all(a.dtype == np.float64 for a in one.values())
    assert all(np.allclose(one[k], whole[k], atol=1e-12) for k in one)
    head = module.head
    linear = one["features"] @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert np.allclose(one["logits"], linear, atol=1e-12)
    assert module.training
    assert all(torch.equal(before[k].double(), v.double()) for k, v in module.state_dict().items())


def test_to_input_scales_and_is_channels_last():
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    x = agents.to_input(images, torch.float64, mean, std)
    assert x.shape == (2, 3, 4, 5) and x.is_contiguous(memory_format=torch.channels_last)
    assert x[1, 2, 3, 4].item() == pytest.approx((images[1, 3, 4, 2].item() / 255 - 0.3) / 4, abs=1e-7)
    with pytest.raises(ValueError, match="uint8"):
        agents.to_input(images.float(), torch.float32, mean, std)


def test_channel_moments():
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    mean, std = agents.channel_moments(images)
    assert np.allclose(mean, (images / 255).mean(axis=(0, 1, 2))) and np.allclose(
        std, (images / 255).std(axis=(0, 1, 2))
    )


def test_seeded_is_local():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with agents.seeded(0):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with agents.seeded(0):
        assert torch.equal(torch.rand(3), first)


def test_wrong_depth():
    with pytest.raises(ValueError, match="6n"):
        agents.ResNet(10)
