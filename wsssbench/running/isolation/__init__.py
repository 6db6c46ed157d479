"""`wsssbench run --isolate`: the steps of a recipe run in a sandbox that has no masks to read.

`sandbox` says what bubblewrap mounts, `staging` writes the images and tags that a step may see, `box` is one
sandbox with a `worker` in it, `boxed` fits steps and asks them for outputs in boxes, `strangers` describes
plugins without importing them here, and `marks` remembers what was made so. Nothing of it enters a key, and
judging stays outside. What it holds back and what it does not is in docs/isolation.md: claim no more.
"""
