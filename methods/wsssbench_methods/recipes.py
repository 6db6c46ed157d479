"""Built-in methods: which steps, in which order."""

CAM = ("cam",)
CAM_CRF = ("cam", "crf")
CONSTANT = ("constant",)
FULL = ("full",)
RRM = ("rrm",)
