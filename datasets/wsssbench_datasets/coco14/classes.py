"""The 80 categories of COCO by their ids, 1 to 90 with gaps. Label k + 1 is the k-th of them."""

from __future__ import annotations

from collections.abc import Mapping

_BLOCKS = (  # first id, names in the order of ids
    (1, "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant"),
    (13, "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe"),
    (27, "backpack,umbrella"),
    (31, "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove"),
    (41, "skateboard,surfboard,tennis racket,bottle"),
    (46, "wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog"),
    (59, "pizza,donut,cake,chair,couch,potted plant,bed"),
    (67, "dining table"),
    (70, "toilet"),
    (72, "tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator"),
    (84, "book,clock,vase,scissors,teddy bear,hair drier,toothbrush"),
)
CATEGORIES: Mapping[int, str] = {
    first + k: name for first, names in _BLOCKS for k, name in enumerate(names.split(","))
}
CLASS_NAMES = tuple(CATEGORIES.values())
