"""Scores of labels beside `wsssbench.metrics.Iou`, one family per module.

From the sparse confusion alone: `confusion` (accuracy, error ratios, activation, confusion pairs), `sparse`
(labels that abstain), `compatible` (what the field's evaluators compute). From the confusion of each image:
`images`. From the labels themselves: `boundary`. Nothing here reads files or knows of methods, and importing
it needs numpy alone; scores of maps, probabilities and tags live elsewhere.
"""
