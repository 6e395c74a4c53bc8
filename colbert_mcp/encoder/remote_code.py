"""Code that a checkpoint brings or names, and who has allowed it to run.

A model may hold Python files that would run with all rights of the user. They do so only for the model that the
configuration names with ``trust_remote_code = true``: a hub id pinned to a commit, or a directory that no indexed
folder holds. Knows files and the ``[model]`` settings; runs nothing.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.json_files import read_json
from colbert_mcp.errors import EncoderError

_COMMIT = re.compile(r"[0-9a-f]{40}")
# A value with a slash in these would have code fetched from a hub.
_KERNEL_KEYS = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
)


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """Code that a checkpoint names: ``references`` as they stand in its files, ``repositories`` other than its own.

    ``files`` are the Python files in its directory.
    """

    references: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any that would run."""
        return bool(self.references)

    def absent(self, directory: Path) -> list[str]:
        """The references to files of the checkpoint's own that are not in its directory."""
        named = [reference.partition(": ")[2] for reference in self.references]
        own = [name for name in named if "--" not in name]
        return [name for name in own if not (directory / f"{name.partition('.')[0]}.py").is_file()]


def remote_code(directory: Path, folders: Iterable[Path], modules: Iterable[str]) -> RemoteCode:
    """What a checkpoint would run: ``folders`` hold its configurations, ``modules`` are types not on the list.

    Raises EncoderError for code that is never run: a kernel from a hub, or an adapter over another model.
    """
    references = [f"modules.json: {module}" for module in modules]
    for folder in dict.fromkeys(folders):
        if (folder / "adapter_config.json").exists():
            raise EncoderError(f"The model in {folder} is an adapter over another model; merge it and save the result.")
        for name in ("config.json", "tokenizer_config.json"):
            settings = read_json(folder / name)
            if not isinstance(settings, dict):
                continue
            if any("/" in str(value) for value in _named(settings, _KERNEL_KEYS)):
                raise EncoderError(f"{folder / name} names a kernel from a hub, which is not run.")
            references += [f"{name}: {reference}" for reference in _leaves(settings.get("auto_map"))]
    if not references:
        return RemoteCode()
    named = (reference.partition(": ")[2].partition("--") for reference in references)
    elsewhere = {repository for repository, separator, _ in named if separator}
    return RemoteCode(tuple(references), tuple(sorted(elsewhere)), tuple(sorted(directory.rglob("*.py"))))


def check_allowed(code: RemoteCode, directory: Path, config: ModelConfig) -> None:
    """Raise EncoderError where the settings do not allow the code of a checkpoint to run."""
    if not code:
        return
    what = f"The model in {directory} brings code of its own ({code.references[0]})"
    if not config.trust_remote_code:
        raise EncoderError(
            f"{what}, which is not run. If you have read it and trust it, set [model] trust_remote_code = true "
            "(and, for a hub id, revision to a commit) in the configuration."
        )
    check_pinned(config)
    if code.repositories and not _COMMIT.fullmatch(config.code_revision):
        raise EncoderError(
            f"{what} from {', '.join(code.repositories)}; set [model] code_revision to the 40 digits of a commit there."
        )


def check_pinned(config: ModelConfig) -> None:
    """Raise EncoderError for a hub id that may run code and is not pinned to a commit."""
    if config.trust_remote_code and config.directory is None and not _COMMIT.fullmatch(config.revision):
        raise EncoderError(
            f"[model] trust_remote_code = true needs a revision that cannot change: set [model] revision to the 40 "
            f"digits of a commit of {config.name}."
        )


def check_apart(directory: Path, config: ModelConfig, roots: Sequence[Path]) -> None:
    """Raise EncoderError where a model that may run code lies in an indexed folder, which others may fill."""
    if not config.trust_remote_code:
        return
    real = directory.resolve()
    for root in roots:
        if real.is_relative_to(root):
            raise EncoderError(
                f"The model in {directory} may run code ([model] trust_remote_code) and lies in the indexed folder "
                f"{root}; move it elsewhere, or take that folder out of the index."
            )


def _named(value: object, keys: Collection[str]) -> Iterator[object]:
    """The values under one of the keys in a configuration, and in those of its parts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in keys:
                yield inner
            yield from _named(inner, keys)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, keys)


def _leaves(value: object) -> list[str]:
    """The strings in an ``auto_map``: of classes, or of pairs of them."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [] if value is None else [str(value)]
