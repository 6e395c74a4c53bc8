import inspect
import re

import pytest

from colbert_mcp import errors
from colbert_mcp.errors import ColbertMCPError

CLASSES = [member for _, member in inspect.getmembers(errors, inspect.isclass) if member.__module__ == errors.__name__]


def branch(error: type[ColbertMCPError]) -> type[ColbertMCPError]:
    """The direct child of the base that an error descends from."""
    return error if error.__base__ is ColbertMCPError else branch(error.__base__)  # type: ignore[arg-type]


def tree() -> dict[str, str]:
    """Each class of the module's docstring and the one it stands under."""
    parents: dict[str, str] = {}
    above = {-1: "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+Error)\b", line):
            depth = len(found[1]) // 4
            above[depth] = found[2]
            parents[found[2]] = above[depth - 1]
    return parents


def test_every_error_descends_from_one_base() -> None:
    assert len(CLASSES) > 10
    assert all(issubclass(error, ColbertMCPError) for error in CLASSES)


def test_every_branch_has_an_exit_code_of_its_own() -> None:
    branches = [error for error in CLASSES if error.__base__ is ColbertMCPError]
    codes = [error.exit_code for error in branches]
    assert len(set(codes)) == len(codes) >= 5
    # 0 is success, 1 the base, 2 wrong usage (argparse), and shells keep 126 and above.
    assert all(2 < code < 126 for code in codes)
    assert ColbertMCPError.exit_code == 1


@pytest.mark.parametrize("error", [error for error in CLASSES if error is not ColbertMCPError])
def test_an_error_ends_with_the_exit_code_of_its_branch(error: type[ColbertMCPError]) -> None:
    assert error("why").exit_code == branch(error).exit_code


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert tree() == {error.__name__: error.__base__.__name__ for error in CLASSES if error.__base__}


def test_an_error_is_its_message() -> None:
    assert str(errors.ConfigError("what failed")) == "what failed"
