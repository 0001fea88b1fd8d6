"""What the peers' scripts share: a script runs one case a process, driven over stdin and stdout by the bench.

    python bench/SCRIPT CASE

The first line printed describes what was compiled. Then each line read is a number of steps to run, and each line
printed is what one of them cost: wall and CPU seconds, and the process's peak memory so far, as JSON.
"""

import json
import os
import resource
import sys
import time


def cpu_seconds():
    """Of this process and the processes of its own that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def timed(f):
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = f()
    return result, time.perf_counter() - wall, cpu_seconds() - cpu


def serve(cases, *arguments):
    """Runs the case that the command line names: cases gives what makes its step, and its setup, by name, and where
    that is not this process's alone, what tells its peak memory. Arguments are those that follow the name."""
    if len(sys.argv) != 2 + len(arguments) or sys.argv[1] not in cases:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(cases)}")
    answers = os.dup(1)
    os.dup2(2, 1)  # some libraries print where the answers go
    with os.fdopen(answers, "w") as out:
        run, setup, *peak = cases[sys.argv[1]](*arguments)
        peak = peak[0] if peak else peak_bytes
        print(json.dumps(setup), file=out, flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                _, wall, cpu = timed(run)
                print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak()}), file=out, flush=True)
