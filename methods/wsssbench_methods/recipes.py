"""Built-in methods: which steps, in which order.

In a `-2step` recipe a segmenter learns from the labels of the first step after a CRF. With the segmenter's
presets `shapes`, `mobilenet` and `tiny` both have the same backbone; `paper` is DeepLab-v2 on ResNet-101.
"""

CAM = ("cam",)
CAM_2STEP = ("cam", "crf", "segmenter")
CAM_CRF = ("cam", "crf")
CONSTANT = ("constant",)
FULL = ("full",)
GRADCAM = ("gradcam",)
GRADCAM_PLUS_PLUS = ("gradcam++",)
LAYERCAM = ("layercam",)
RRM = ("rrm",)
RRM_2STEP = ("rrm", "crf", "segmenter")
SCORECAM = ("scorecam",)
