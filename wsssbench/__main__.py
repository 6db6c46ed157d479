"""`python -m wsssbench` is `wsssbench`."""

from wsssbench.cli.main import main

if __name__ == "__main__":
    main()
