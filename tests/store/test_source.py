"""What a result rests on: the closure of imports, blind to comments, never to code."""

from gfm.store import source


def test_imports_are_found_in_every_form():
    code = ("import gfm\nimport gfm.problem.flat as f\nfrom gfm import central as c, errors\n"
            "from gfm.optimizers import GradientDescent\ngfm.Problem(1)\nc.run(1)\n")
    found = source.imports_of(code)
    assert {"gfm.problem.flat", "gfm.central", "gfm.errors", "gfm.optimizers", "gfm.problem"} <= found


def test_the_closure_reaches_down_and_leaves_drawing_out():
    found = source.closure(["gfm.problem"])
    assert "gfm.problem" in found and "gfm.errors" in found
    far = {"gfm.linalg.eigen", "gfm.linalg.deflation", "gfm.optimizers.filters", "gfm.problem.sweeps", "gfm.checks"}
    assert far <= set(source.closure(["gfm.experiments.central.flow_run"]))
    assert not [m for m in source.closure(["gfm.central"]) if m.startswith(("gfm.figures", "gfm.book"))]
    assert "gfm.book.element" in source.closure(["gfm.book"], drawing=True)
    assert "gfm.store.store" not in source.closure(["gfm.experiments"])


def test_comments_docstrings_and_layout_do_not_count_but_code_does():
    plain = source.digest_of_code("def f(x):\n    return x + 1\n")
    assert source.digest_of_code('def f(x):\n    """Words."""\n    # more\n    return (x +\n 1)\n') == plain
    assert source.digest_of_code("def f(x):\n    return x + 2\n") != plain
    assert source.digest_of_code('x = "text"\n') != source.digest_of_code('x = "other"\n')
