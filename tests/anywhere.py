"""``make anywhere``: the committed notebooks, run by nbval under settings that compute as other machines would.

Each machine below is a set of environment variables that make the libraries choose other kernels: sums are
then taken in another order, and rounded otherwise. A rerun must still reproduce every verdict, and every number
within the tolerance that its cell states (tests/reproduction.py).
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MACHINES = {
    "without vector units": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
                             "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Prescott"},
    "with AVX": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX", "MKL_CBWR": "AVX",
                 "OPENBLAS_CORETYPE": "Sandybridge"},
    "with AVX2, two threads": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2",
                               "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"},
}


def chosen(notebooks: list[Path], share: str) -> list[Path]:
    """Every n-th notebook from the k-th on, for a share "k/n"; "auto/n" goes on by one with each commit.

    Raises: SystemExit for anything else.
    """
    part, _, whole = share.partition("/")
    if not whole.isdecimal() or not int(whole) or not (part == "auto" or part.isdecimal()):
        sys.exit(f"A share is k/n, as 2/5, or auto/n; got {share!r}.")
    k = _commits() % int(whole) + 1 if part == "auto" else int(part)
    if not 1 <= k <= int(whole):
        sys.exit(f"There is no part {k} of {whole}.")
    return notebooks[k - 1:: int(whole)]


def _commits() -> int:
    counted = subprocess.run(["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(counted.stdout) if counted.returncode == 0 else 0


def main() -> int:
    """Run the share under every machine; 1 where some notebook is not reproduced on some machine."""
    options = argparse.ArgumentParser(description="The committed notebooks, computed as other machines would.")
    options.add_argument("--share", default="1/1", help="k/n or auto/n (default: all notebooks)")
    options.add_argument("--jobs", type=int, default=2, help="notebooks run side by side (on one thread each)")
    given = options.parse_args()
    notebooks = chosen(sorted((ROOT / "notebooks").glob("*/*.ipynb")), given.share)
    failed = []
    for name, variables in MACHINES.items():
        start = time.perf_counter()
        print(f"== as a machine {name}: {' '.join(f'{k}={v}' for k, v in variables.items())}", flush=True)
        jobs = max(1, given.jobs // int(variables.get("OMP_NUM_THREADS", 1)))
        command = [sys.executable, "-m", "pytest", *map(str, notebooks), "-n", str(jobs), "--dist", "loadfile",
                   "--no-loadscope-reorder", "--nbval", "--nbval-current-env"]
        if subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}).returncode:
            failed.append(name)
        print(f"{len(notebooks)} notebooks in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"Not reproduced {', nor '.join(failed)}." if failed else "Reproduced on every machine.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
