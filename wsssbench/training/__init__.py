"""What the training loop of `wsssbench.train` is made of: crops, checkpoints, optimizers, losses, checks."""
