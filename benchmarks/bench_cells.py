"""What the cells of the profile `paper` take: how many each notebook asks for, and on how many machines how long.

Hours are measured where a cell is stored, and else scaled from the nearest stored run of the same experiment on the
same network. Cells without such a run are counted under "unknown" and are not in the hours. Machines take the longest
cell that is left first. Memory is the most that a process held while it computed a stored cell.
"""

from collections import defaultdict

from common import report

from gfm.book import Register
from gfm.book.cells import cells
from gfm.book.costs import estimates, makespan

found = cells(Register.load(), "paper")
costs = estimates(found)
by = defaultdict(list)
for cell, seconds in zip(found, costs, strict=True):
    by[cell.notebook].append((cell, seconds))
rows = []
for name, parts in by.items():
    known = [seconds for _, seconds in parts if seconds is not None]
    rows.append({
        "notebook": name.removesuffix(".ipynb"), "cells": len(parts), "stored": sum(c.stored[0] for c, _ in parts),
        "unknown": len(parts) - len(known), "hours": round(sum(known) / 3600, 2),
        "longest, hours": round(max(known, default=0.0) / 3600, 2),
        "most memory, MiB": max((c.stored[3] for c, _ in parts if c.stored[3]), default=None)})
known = [seconds for seconds in costs if seconds is not None]
for machines in (1, 8, 64):
    rows.append({
        "notebook": f"all, on {machines} machine{'s' * (machines > 1)}", "cells": len(found),
        "stored": sum(c.stored[0] for c in found), "unknown": len(found) - len(known),
        "hours": round(makespan(known, machines) / 3600, 2), "longest, hours": round(max(known) / 3600, 2),
        "most memory, MiB": max((c.stored[3] for c in found if c.stored[3]), default=None)})
report("cells", __doc__, rows)
