"""The machine: its threads, its name, and the memory that a process takes."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[2]
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def threads(n):
    """Let this process, and those that it starts meanwhile, use so many threads each."""
    before = torch.get_num_threads(), {name: os.environ.get(name) for name in _VARIABLES}
    try:
        torch.set_num_threads(n)
        os.environ.update(dict.fromkeys(_VARIABLES, str(n)))
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before[0])
        for name, value in before[1].items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def machine():
    """The processor, the number of threads, and the versions of what computes."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_memory():
    """Megabytes that this process has held at most so far. On Linux only."""
    # Not ru_maxrss, which starts at that of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 2**10


def peak_of_fresh_process(code):
    """Megabytes by which a fresh process grew between X and the end of the code, at the peak.

    The code makes its input, sets ``before = peak_memory()``, and goes on; what it prints is
    returned in words. On Linux only.
    """
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from benchmarks._common.machine import peak_memory\n"
        f"{code}\n"
        "print(before, peak_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    *printed, before, after = done.stdout.split()
    return {
        "peak_mb": float(after),
        "grown_mb": float(after) - float(before),
        "printed": printed,
    }
