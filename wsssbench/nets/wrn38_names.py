"""What other files call the layers of WRN-38: the official PyTorch checkpoints and the MXNet original.

Only names live here. Sources: the state dict of RRM and PSA (network/resnet38d.py) for `official_name`; for
`mxnet_name` the symbols that the ImageNet weights were trained with (ademxapp, util/symbol/resnet_v2.py:
bn{level}{block}_branch..., res{level}{block}_branch..., blocks a, b1, b2, ...) and the converter in PSA's
network/resnet38d.py. Those symbols have `fix_gamma=False` and `eps=1e-5` (ademxapp, util/symbol/symbol.py),
so the gammas in the file are the ones in use and torch's BatchNorm computes the same.
"""

from __future__ import annotations

import re

BRANCHES = ("2a", "2b1", "2b2")  # of the first, second and third convolution of a block
ENDS = {"stem": "conv1a", "norm": "bn7"}
CLASSIFIER = {"head.weight": "fc8.weight"}  # of heads.Classifier, in official files
SEGMENT = {  # of heads.JointNet, in official files
    "segment.layers.0.weight": "fc8_seg_conv1.weight",
    "segment.layers.0.bias": "fc8_seg_conv1.bias",
    "segment.layers.2.weight": "fc8_seg_conv2.weight",
    "segment.layers.2.bias": "fc8_seg_conv2.bias",
}
MXNET_CLASSIFIER = ("arg:linear1000_weight", "arg:linear1000_bias")  # ImageNet's 1000 classes: not used
BESIDES = frozenset((*CLASSIFIER.values(), *SEGMENT.values(), *MXNET_CLASSIFIER))

_BLOCK_KEY = re.compile(r"stage(\d)\.(\d)\.(?:(norms|convs)\.(\d)|shortcut)\.(\w+)")
_OFFICIAL_LAYER = re.compile(r"b(\d)(?:_(\d))?\.(bn|conv)_(branch\w+)")
_MXNET_LEAVES = {  # of BatchNorm; statistics are "auxiliary" states there
    "weight": ("arg", "gamma"),
    "bias": ("arg", "beta"),
    "running_mean": ("aux", "moving_mean"),
    "running_var": ("aux", "moving_var"),
}


def official_name(own: str) -> str:
    """ "stage2.1.norms.0.weight" -> "b2_1.bn_branch2a.weight", "stem.weight" -> "conv1a.weight"."""
    parts = _BLOCK_KEY.fullmatch(own)
    if parts is None:
        module, _, leaf = own.partition(".")
        return f"{ENDS[module]}.{leaf}"
    stage, block, kind, index, leaf = parts.groups()
    place = f"b{stage}" if block == "0" else f"b{stage}_{block}"
    branch = BRANCHES[int(index)] if index else "1"  # branch 1 is the shortcut
    return f"{place}.{'bn' if kind == 'norms' else 'conv'}_branch{branch}.{leaf}"


def mxnet_name(own: str) -> str:
    """ "stage2.1.norms.0.weight" -> "arg:bn2b1_branch2a_gamma", "stem.weight" -> "arg:conv1a_weight"."""
    layer, _, leaf = official_name(own).rpartition(".")
    parts = _OFFICIAL_LAYER.fullmatch(layer)
    if parts is not None:
        stage, block, kind, branch = parts.groups()
        layer = f"{'bn' if kind == 'bn' else 'res'}{stage}{f'b{block}' if block else 'a'}_{branch}"
    counter = ("aux", leaf)  # which MXNet has not
    kind, name = _MXNET_LEAVES.get(leaf, counter) if layer.startswith("bn") else ("arg", leaf)
    return f"{kind}:{layer}_{name}"
