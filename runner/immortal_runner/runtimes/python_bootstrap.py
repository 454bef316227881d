"""Starts AWS's own Python runtime client as the managed bootstrap does, where no base image brings one.

The client is imported before the function's folders come onto the path: a function's own ``json.py`` or ``logging.py``
must break the function, never the client that has to report it.
"""

import concurrent.futures.thread  # noqa: F401  # the client imports it late, when a function's own queue.py is in the way
import os
import site
import sys

from awslambdaric.__main__ import main


def function_paths(variables: "os._Environ[str]") -> list[str]:
    """The folders that a function imports from, in Lambda's order.

    A customer's own ``PYTHONPATH`` takes the place of the layers' folders, as it does on Lambda.
    """
    task, runtime = variables["LAMBDA_TASK_ROOT"], variables["LAMBDA_RUNTIME_DIR"]
    opt = os.path.normpath(f"{task}/../../opt")  # `/opt` beside `/var/task`; elsewhere below the same root
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = [f"{opt}/python/lib/{version}/site-packages", f"{opt}/python"]
    return [task, *(layers if variables.get("PYTHONPATH") == runtime else [])]


if __name__ == "__main__":
    site.setquit()  # the interpreter runs without the machine's own packages, but `exit()` is there on Lambda
    site.sethelper()
    sys.path[:0] = function_paths(os.environ)
    main(["bootstrap", os.environ["_HANDLER"]])
