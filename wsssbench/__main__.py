"""`python -m wsssbench` is `wsssbench`."""

from wsssbench.cli import main

if __name__ == "__main__":
    main()
