"""The machine that numbers are made on: devices, threads, versions, signals and clocks."""
