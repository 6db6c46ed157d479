#!/usr/bin/env bash
# Lossless PNG optimisers renumber the indices of palette PNGs, in each file otherwise: label maps whose numbers
# are classes keep their looks and lose their classes, even at the lowest level of optimisation.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" -q install oxipng-pybind==10.2.1.post1 zopflipy==1.14 pillow==12.3.0 numpy==2.4.6
cd "$place"
venv/bin/python - <<'PYTHON'
import io
from importlib.metadata import version

import numpy as np
import oxipng
from PIL import Image
from zopfli import ZopfliPNG

COLOURS = {0: (0, 0, 0), 8: (64, 0, 0), 9: (192, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}  # of VOC


def label_png(*classes):
    """A label map 90 x 90 with a block for each class, void in the first row, and VOC's colours as palette."""
    labels = np.zeros((90, 90), np.uint8)
    labels[0] = 255
    for place, label in enumerate(classes):
        labels[4 + 25 * place : 22 + 25 * place, 10 : 30 + 25 * place] = label
    palette = np.zeros((256, 3), np.uint8)
    for label, colour in COLOURS.items():
        palette[label] = colour
    picture, buffer = Image.fromarray(labels), io.BytesIO()
    picture.putpalette(palette.tobytes())
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def read(data):
    picture = Image.open(io.BytesIO(data))
    return np.asarray(picture), np.asarray(picture.convert("RGB"))


print(*(f"{name} {version(name)}" for name in ("oxipng-pybind", "zopflipy", "pillow")))
tools = {
    "oxipng": oxipng.optimize_from_memory,
    "oxipng, level 0": lambda data: oxipng.optimize_from_memory(data, level=0),
    "zopflipng": ZopfliPNG().optimize,
}
for name, optimise in tools.items():
    numbers = {}
    for classes in ((8, 15), (15, 9, 8)):
        before, after = read(label_png(*classes)), read(optimise(label_png(*classes)))
        assert np.array_equal(before[1], after[1]), "the colours have changed"
        assert not np.array_equal(before[0], after[0]), f"{name} leaves the indices alone now"
        table = {int(old): int(after[0][before[0] == old][0]) for old in np.unique(before[0])}
        numbers[classes] = table[8]
        print(f"{name}: index -> index {table}, every colour as before")
    print(f"  class 8 is {' and '.join(f'{n} in the file of classes {c}' for c, n in numbers.items())}")
    assert len(set(numbers.values())) > 1, f"{name} numbers a colour alike in both files now"
PYTHON
