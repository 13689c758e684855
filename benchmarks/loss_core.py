"""The loss core against torch's cross-entropy with soft targets: forward and backward on (65,536 × 10) float32."""

from __future__ import annotations

import numpy as np
import torch
from timing import paired_ratio, report
from torch.profiler import ProfilerActivity, profile

from l2d_utils.losses import PairLoss, pair_loss, to_tensor_type

N, K = 65_536, 10


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, weights = torch.randn(N, K, generator=generator), torch.rand(N, K, generator=generator)

    def with_margins(margins) -> PairLoss:
        return to_tensor_type(pair_loss(weights.numpy(), margins=margins), scores)

    def backward(loss) -> None:
        leaf = scores.clone().requires_grad_()
        loss(leaf).backward()

    def reference(s: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(s, weights)

    for name, margins, bar in (("one ρ", 1.0, 1.0), ("ten distinct ρ", np.linspace(0.5, 2.0, K), 2.5)):
        loss = with_margins(margins)
        ratio = paired_ratio(lambda loss=loss: backward(loss), lambda: backward(reference))
        report(f"time, {name}, against cross_entropy ({torch.get_num_threads()} threads)", ratio, bar)
        report(f"peak extra memory, {name}", peak_floats(lambda loss=loss: backward(loss)) / (N * K), 6.0, "n·K floats")


def peak_floats(work) -> float:
    """Largest number of float32 that torch held at once beyond what it held before, while `work` ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    held = peak = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 4


if __name__ == "__main__":
    main()
