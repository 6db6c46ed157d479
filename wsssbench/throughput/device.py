"""What a measurement asks of a device: the time, whether the work is done, how much memory it took. torch is
imported by the CUDA half alone."""

from __future__ import annotations

import sys
import time

from wsssbench.throughput.record import Machine


class Instruments:
    """A clock and a memory gauge for the processor: calls return when they are done."""

    asynchronous = False  # whether work goes on after the call that started it has returned

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def synchronise(self) -> None:
        """Wait until all started work is done."""

    def reset_peak(self) -> None:
        """Forget the largest memory so far, where that can be; the process's is since its start."""

    def peak_bytes(self) -> int | None:
        """The largest memory since `reset_peak`; None where it is not known."""
        try:
            from resource import RUSAGE_SELF, getrusage
        except ImportError:  # Windows
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return int(getrusage(RUSAGE_SELF).ru_maxrss) * unit


class CudaInstruments(Instruments):
    """A CUDA device: calls return at once. The peak is what torch allocated there, for whatever is loaded."""

    asynchronous = True

    def __init__(self, device: str) -> None:
        import torch

        torch.cuda.init()  # type: ignore[no-untyped-call]  # the gauge alone does not do it
        self.device = device

    def synchronise(self) -> None:
        import torch

        torch.cuda.synchronize(self.device)

    def reset_peak(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))


def instruments_of(device: str) -> Instruments:
    """Those of "cpu", "cuda" or "cuda:N"."""
    return CudaInstruments(device) if device.startswith("cuda") else Instruments()


def machine_of(device: str) -> Machine:
    """The hardware that `device` is, with the threads that torch uses now."""
    import torch

    from wsssbench.machine.env import hardware

    found = hardware(device)
    kind = device.partition(":")[0]
    return Machine(kind, found.get("gpu", found["cpu"]), found["cpu"], torch.get_num_threads())
