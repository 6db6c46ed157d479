"""Trials in processes of their own: several at a time on this machine (`local`), or as jobs of a cluster
(`slurm`).

A trial is one method on one data set with one seed. What it needs is written to runs/.jobs/<trial>/job.json
(`request`) and carried out by `worker`, a process that ends with an exit code and finds the records that a
run in one process finds. Here trials are cut out of a plan (`jobs`), put in an order (`schedule`), started
and waited for (`local`, `slurm`), and how they ended is reported (`outcome`).
Nothing is trained or judged here, and nothing heavy is imported: a worker imports this module first.
"""
