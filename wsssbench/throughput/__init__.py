"""How fast methods train and predict, and where the time goes: the protocol, and records of its own.

Nothing of a real run is read, reused or changed here: what is fitted lies in a temporary folder and goes with
it. No masks are judged, and no table is made (`wsssbench.reporting.throughput`).
"""
