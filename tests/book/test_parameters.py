"""Parameters of notebooks: values from the command line and from profiles, refused before a kernel starts."""

import shutil

import pytest

from gfm.book.runs.notebooks import Notebook, _check_value, profile_parameters
from gfm.errors import InputError, UnknownNameError, UnreadableFileError

NAME = "part/toy.ipynb"


@pytest.mark.parametrize("given, expected", [
    ([("steps", "12")], {"steps": 12}),
    ([("tau", "3")], {"tau": 3.0}),
    ([("tau", "1e-3")], {"tau": 0.001}),
    ([("steep", "True")], {"steep": True}),
    ([("label", "12")], {"label": "12"}),
    ([("shape", "[3.5, 4]")], {"shape": [3.5, 4]}),
])
def test_values_take_the_type_of_the_default(project, given, expected):
    found = Notebook(project, NAME).convert(given)
    assert found == expected and [type(v) for v in found.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize("given, error, word", [
    (("steps", "1.5"), InputError, "whole number"),
    (("steps", ""), InputError, "whole number"),
    (("tau", "nan"), InputError, "finite"),
    (("tau", "fast"), InputError, "finite number"),
    (("steep", "1"), InputError, "true or false"),
    (("shape", "3"), InputError, "a list"),
    (("shape", "[]"), InputError, "at least one entry"),
    (("shape", "[a, b]"), InputError, "finite number"),
    (("shape", '[3, "a"]'), InputError, "a list of finite numbers"),
    (("steps", "0"), InputError, "above zero"),
    (("stepz", "3"), UnknownNameError, "it has steps, tau"),
    (("profile", "book"), InputError, "--profile"),
])
def test_wrong_values_are_refused(project, given, error, word):
    with pytest.raises(error, match=word):
        Notebook(project, NAME).convert([given])


def test_profiles_change_parameters_only_where_they_exist(project):
    notebook = Notebook(project, "toy")
    assert profile_parameters(project, notebook, "smoke") == {}
    assert profile_parameters(project, notebook, "book") == {"profile": "book", "steps": 60}
    with pytest.raises(UnknownNameError, match="smoke, book, paper"):
        profile_parameters(project, notebook, "huge")
    file = project / "notebooks" / "profiles.yml"
    file.write_text(f"{NAME}: {{book: {{stepz: 3}}}}")
    with pytest.raises(UnknownNameError, match="stepz"):
        profile_parameters(project, notebook, "book")
    with pytest.raises(UnknownNameError, match="no profile 'paper'"):
        profile_parameters(project, notebook, "paper")
    file.write_text(f"{NAME}: {{book: {{tau: 1e-3}}}}")  # YAML 1.1 reads this as text
    with pytest.raises(InputError, match="finite number"):
        profile_parameters(project, notebook, "book")


@pytest.mark.parametrize("text, word", [
    ("{tau: true}", "a finite number"), ("{tau: .inf}", "a finite number"), ("{steep: 1}", "true or false"),
    ("{label: 3}", "text"), ("{shape: [a]}", "a list of finite numbers"), ("{steps: 0}", "above zero"),
    ("{profile: paper}", "may not set the profile"),
])
def test_a_profiles_values_are_of_the_defaults_kind(project, text, word):
    (project / "notebooks/profiles.yml").write_text(f"{NAME}: {{book: {text}}}")
    with pytest.raises(InputError, match=word):
        profile_parameters(project, Notebook(project, NAME), "book")


def test_a_profiles_list_may_leave_a_value_to_the_notebook(project):
    notebook = Notebook(project, NAME)
    notebook.defaults["lrs"] = [0.1]
    (project / "notebooks/profiles.yml").write_text(f"{NAME}: {{book: {{lrs: [0.2, 0]}}}}")
    assert profile_parameters(project, notebook, "book") == {"profile": "book", "lrs": [0.2, 0]}
    with pytest.raises(InputError, match="above zero"):
        notebook.convert([("lrs", "[0.2, 0]")])  # not on the command line


def test_a_name_must_mean_one_notebook(project):
    (project / "notebooks/other").mkdir()
    shutil.copy(project / "notebooks" / NAME, project / "notebooks/other/toy.ipynb")
    with pytest.raises(UnreadableFileError, match="no notebook 'toy'"):
        Notebook(project, "toy")
    assert Notebook(project, "other/toy").name == "other/toy.ipynb"


def test_magics_are_no_code_to_be_read(project):
    notebook = Notebook(project, NAME)
    notebook.cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", "x = 1\n", "  !ls\n", "y = 2"]},
                      {"cell_type": "markdown", "source": "words"}, {"cell_type": "code", "source": "z = 3"}]
    assert notebook.code() == "\nx = 1\n\ny = 2\nz = 3"


@pytest.mark.parametrize("text, word", [("{", "not a notebook"), ('{"cells": []}', "parameters")])
def test_files_that_are_no_notebook(project, text, word):
    (project / "notebooks" / "bad.ipynb").write_text(text)
    with pytest.raises(UnreadableFileError, match=word):
        Notebook(project, "bad")


@pytest.mark.parametrize("name, good, wrong", [
    ("data", "mnist", "cifar"), ("net", "vit", "resnet50"), ("loss", "mse", "huber"), ("optimizer", "adam", "sgd"),
    ("dtype", "float32", "float16"), ("activation", "gelu", "geluu"),
])
def test_names_are_checked_before_a_kernel_starts(name, good, wrong):
    _check_value(name, good)
    with pytest.raises(UnknownNameError, match=f"{good}.*not '{wrong}'"):
        _check_value(name, wrong)


@pytest.mark.parametrize("name, value", [("lr", -1.0), ("lrs", [0.1, 0.0]), ("substeps", 0), ("n", -3)])
def test_numbers_with_which_no_run_can_begin(name, value):
    with pytest.raises(InputError, match="above zero"):
        _check_value(name, value)


def test_a_count_of_any_name_is_not_negative():
    with pytest.raises(InputError, match="cannot be negative"):
        _check_value("sweep", -4)
