"""`python -m kubedistill_runtime.cli`: the command, where its script is not on the path."""

from kubedistill_runtime.cli import main

if __name__ == "__main__":
    main()
