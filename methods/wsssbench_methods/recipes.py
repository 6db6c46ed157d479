"""Built-in methods: which steps, in which order."""

CAM = ("cam",)
CAM_CRF = ("cam", "crf")
CONSTANT = ("constant",)
FULL = ("full",)
GRADCAM = ("gradcam",)
GRADCAM_PLUS_PLUS = ("gradcam++",)
LAYERCAM = ("layercam",)
RRM = ("rrm",)
SCORECAM = ("scorecam",)
