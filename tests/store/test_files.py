"""Files that are replaced as a whole or not at all."""

import pytest

from gfm.files import replacing, write_text


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "new" / "one.json"
    write_text(path, "first")
    write_text(path, "second")
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, folder):
    path = tmp_path / "one"
    path.write_text("first")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        if folder:
            partial.mkdir()
            (partial / "part").write_text("half")
        else:
            partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
