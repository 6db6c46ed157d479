"""A refiner used by tests as a plugin: probabilities that depend on which images go through it together."""

from typing import ClassVar

import numpy as np

from wsssbench.types import NoConfig, Outputs, StepCard


class Crowd:
    """Background is as probable as the maps of all images of one call are bright on average."""

    Config = NoConfig
    presets: ClassVar = {}
    card = StepCard("crowd", "1", "refiner", (), ("probs",), takes=("maps",))

    def __init__(self, config):
        self.config = config

    def fit(self, train, given, ctx):
        return self.restore(ctx)

    def restore(self, ctx):
        classes = len(ctx.card.class_names)

        def predict(images, tags, given, want):
            planes = [np.zeros((classes + 1, *one.maps.values.shape[1:]), np.float32) for one in given]
            for own, one in zip(planes, given, strict=True):
                own[one.maps.classes + 1] = one.maps.values
                own[0] = np.mean([other.maps.values.mean() for other in given])
            return [Outputs(probs=own / own.sum(0)) for own in planes]

        return predict
