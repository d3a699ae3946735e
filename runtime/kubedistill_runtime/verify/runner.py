"""Runs one Python program or function inside the jail. Started as `python -c <this file>`; imports as little as it can.

Arguments: `program` or `function`, the path of the source, the descriptor for the result, the function's name, and the
folders of installed packages. The expected output never comes here: whatever the code does to this process, it can only
answer, not judge.
"""

import sys
from types import ModuleType

# What LeetCode and LiveCodeBench import before a solution; builtins last, for math's pow and operator's abs hide them.
_PRELUDE = """
from collections import *
from heapq import *
from bisect import *
from math import *
from operator import *
from itertools import *
from functools import *
from typing import *
from builtins import *
import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re, string, sys, typing
"""

_RECURSION = 100_000
"""Frames a called function may nest, as on LeetCode. Programs get Python's own limit and raise it themselves."""


def run_program(source: str) -> None:
    """Run a whole program as `__main__`."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["solution.py"]
    exec(compile(source, "solution.py", "exec"), main.__dict__)


def call_function(source: str, name: str, result: int) -> None:
    """Call one function with the arguments on standard input, and write what it returns as JSON."""
    import json
    import os

    arguments = json.load(sys.stdin)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    sys.setrecursionlimit(_RECURSION)
    module = ModuleType("solution")
    sys.modules["solution"] = module
    exec(_PRELUDE, module.__dict__)
    exec(compile(source, "solution.py", "exec"), module.__dict__)
    owner = module.__dict__.get("Solution")
    function = getattr(owner(), name) if owner and hasattr(owner, name) else module.__dict__.get(name)
    if function is None:
        raise NameError(f"no function {name} at module level or in class Solution")
    text = json.dumps(function(*arguments), default=_plain)
    with os.fdopen(result, "w") as channel:
        channel.write(text)


def _plain(value: object) -> object:
    """JSON for what solutions return beside plain values: arrays, deques, dict views, generators, sets of numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


if __name__ == "__main__":
    kind, path, result, name, *packages = sys.argv[1:]
    sys.path.extend(packages)
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib would cost every run 10 ms
        source = file.read()
    if kind == "program":
        run_program(source)
    else:
        call_function(source, name, int(result))
