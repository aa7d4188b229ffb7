"""A plugin: at the end of the output stands how many bad calls of each function were tried, and what became of them."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "faults"))


def pytest_terminal_summary(terminalreporter):
    """The counts come with the tests' reports, also from the workers of xdist."""
    counts: Counter[tuple[str, str]] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, rows in getattr(report, "user_properties", ()):
                if name == "bad calls" and report.when == "teardown":  # once for each test
                    counts.update({(function, verdict): n for function, verdict, n in rows})
    if counts:
        from bad_calls import table

        terminalreporter.section("bad calls")
        terminalreporter.write_line(table(counts))
