"""The workflow that publishes the book asks only for what there is, and for nothing that can change under it."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from gfm.book.paths import PROFILES

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
BOOK = yaml.load((ROOT / ".github" / "workflows" / "book.yml").read_text(), yaml.BaseLoader)  # "on" stays a word
JOBS = BOOK["jobs"]


def steps(job: str) -> list[dict]:
    return JOBS[job]["steps"]


def commands(job: str) -> list[list[str]]:
    """The calls of make and of files of the project."""
    lines = [line for step in steps(job) for line in step.get("run", "").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(("make", "."))]


def test_when_each_job_runs():
    assert BOOK["on"]["push"] == {"branches": ["main"]}
    night, week = (entry["cron"] for entry in BOOK["on"]["schedule"])
    assert night.split()[2:] == ["*"] * 3 and week.split()[2:4] == ["*"] * 2 and week.split()[4].isdigit()
    assert JOBS["nightly"]["if"] == f"github.event.schedule == '{night}'"
    assert JOBS["weekly"]["if"] == f"github.event.schedule == '{week}'"
    assert "push" in JOBS["book"]["if"] and JOBS["pages"]["needs"] == "book"


def test_what_each_job_makes():
    assert ["make", "publish", "PROFILE=book", "TO=public"] in commands("book")
    assert ["make", "publish", "PROFILE=smoke", "TO=public"] in commands("nightly")
    assert ["make", "publish", "PROFILE=book", "TO=public"] in commands("weekly")
    assert [".ci/run"] in commands("weekly")
    assert not any("cache" in step.get("uses", "") for step in steps("weekly"))
    (upload,) = [step for step in steps("book") if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "public"


@pytest.mark.parametrize("job", [job for job in JOBS if job not in ("pages", "report")])
def test_a_job_starts_from_a_clean_checkout_and_calls_what_there_is(job):
    assert steps(job)[0]["uses"].startswith("actions/checkout@")
    assert commands(job)
    for program, *words in commands(job):
        if program != "make":
            assert os.access(ROOT / program, os.X_OK), program
            continue
        targets = [word for word in words if "=" not in word]
        assert targets
        for target in targets:
            assert re.search(rf"^{target}:.*## ", MAKEFILE, re.MULTILINE), target
        for name, value in (word.split("=") for word in words if "=" in word):
            assert re.search(rf"^{name} \?=", MAKEFILE, re.MULTILINE), name
            assert name != "PROFILE" or value in PROFILES


@pytest.mark.parametrize("job", JOBS)
def test_actions_are_pinned_by_full_version_and_jobs_bounded(job):
    for step in steps(job):
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", step["uses"])
    assert 0 < int(JOBS[job]["timeout-minutes"]) < 360 and JOBS[job]["runs-on"] != "ubuntu-latest"


def test_the_python_is_one_that_the_project_takes():
    takes = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    versions = {step["with"]["python-version"] for job in JOBS for step in steps(job) if "setup-python" in str(step)}
    assert versions
    for version in versions:
        assert f"{version}.99" in takes
        assert all(f"PYTHON=python{version}" in words for job in JOBS for words in commands(job) if "env" in words)


def test_a_failure_of_any_job_opens_one_issue():
    report = JOBS["report"]
    assert set(report["needs"]) == set(JOBS) - {"report"} and report["if"] == "failure()"
    assert report["permissions"] == {"issues": "write"} and BOOK["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("found, expected", [("", "issue create"), ("7", "issue comment 7")])
def test_an_open_issue_is_continued(found, expected, tmp_path):
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\n[ "$2" = list ] && echo "{found}" || echo "$@"\n')
    gh.chmod(0o755)
    (step,) = steps("report")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TITLE": "A title", "BODY": "Where"}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(expected) and "Where" in done.stdout


def test_every_workflow_is_yaml_with_jobs():
    for file in FILES:
        assert yaml.safe_load(file.read_text())["jobs"], file
        assert "\t" not in file.read_text()


def test_publish_builds_checks_and_lays_out():
    plain = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PROFILE")}
    for given, profile in (([], "book"), (["PROFILE=smoke"], "smoke")):
        said = subprocess.run(["make", "-n", "publish", "TO=there", *given], cwd=ROOT, env=plain, capture_output=True,
                              text=True).stdout
        order = [said.index(words) for words in (f"gfm build --profile {profile} ", "gfm check", "gfm publish there")]
        assert order == sorted(order)
