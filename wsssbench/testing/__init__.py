"""Contract tests that plugin authors import: `check_step(My)`, `check_dataset(Mine)`, `check_metric(Mine)`.

What is broken is collected and raised together as BrokenContract, one sentence each. Steps run on a made-up
data set of a few small images (and by their preset `tiny`, where they have one), on the CPU. No built-in
method or data set is known here.
"""

from wsssbench.testing.contracts import BrokenContract
from wsssbench.testing.dataset_contract import check_dataset
from wsssbench.testing.metric_contract import check_metric
from wsssbench.testing.step_contract import check_step

__all__ = ["BrokenContract", "check_dataset", "check_metric", "check_step"]
