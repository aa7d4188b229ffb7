"""What a run leaves on disk: foreign files and places that cannot be written get one sentence."""

import json

import numpy as np
import pytest

from gfm.central import Run
from gfm.central.result import Series
from gfm.errors import InputError, UnreadableFileError

WHOLE = {"format": "gfm-run/1", "processes": ["discrete"], "settings": {}, "costs": {}, "notes": []}


def test_a_run_reads_what_it_wrote(tmp_path):
    Run({"discrete": Series({"loss": np.arange(3.0)})}, {}, {"lr": 1}, {}, ["a"]).save(tmp_path / "a" / "run.npz")
    found = Run.load(tmp_path / "a" / "run.npz")
    assert found.steps == 2 and found.settings == {"lr": 1} and found.notes == ["a"]


@pytest.mark.parametrize("arrays", [
    {"x": np.zeros(3)},
    {"info": np.array("[]")},
    {"info": np.array("{}")},
    {"info": np.array(json.dumps({**WHOLE, "processes": None}))},
    {"info": np.array(json.dumps({k: v for k, v in WHOLE.items() if k != "costs"}))},
    {"info": np.array(json.dumps(WHOLE)), "other/loss": np.zeros(3)},
])
def test_foreign_archives_are_no_runs(tmp_path, arrays):
    np.savez(tmp_path / "foreign.npz", **arrays)
    with pytest.raises(UnreadableFileError):
        Run.load(tmp_path / "foreign.npz")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another place"):
        Run({}, {}, {}, {}).save(tmp_path / "file" / "run.npz")
