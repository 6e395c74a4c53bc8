"""Judges a model directory before anything in it is loaded: its layout, and that nothing in it runs code unasked.

A checkpoint is a stranger's folder. Only safetensors weights are read (no pickle), module and activation names must be
on a list (they would be imported), remote code must be allowed, and a checkpoint without a projection is refused,
because PyLate would put a random one in its place. Knows files only; loads neither torch nor pylate.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from colbert_mcp.encoder.digests import checkpoint_digest
from colbert_mcp.encoder.json_files import read_json
from colbert_mcp.encoder.remote_code import RemoteCode, remote_code
from colbert_mcp.encoder.weights import WEIGHTS, check_sizes, tensor_shapes, weights_file
from colbert_mcp.errors import EncoderError, ModelNotFoundError

Layout: TypeAlias = Literal["pylate", "sentence-transformers", "stanford"]
LINEAR, BIAS = "linear.weight", "linear.bias"
SETTINGS = "config_sentence_transformers.json"
TOKENIZER_SETTINGS = "tokenizer_config.json"
_TRANSFORMERS = frozenset(
    {"sentence_transformers.models.Transformer", "sentence_transformers.models.Transformer.Transformer"}
)
_PROJECTIONS = frozenset(
    {
        "pylate.models.Dense.Dense",
        "pylate.models.Dense",
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.Dense.Dense",
    }
)
_IGNORED = frozenset(
    {
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.models.Normalize",
        "sentence_transformers.models.Normalize.Normalize",
    }
)
_ACTIVATIONS = ("torch.nn.modules.activation.", "torch.nn.modules.linear.Identity")
# Settings of a Transformer module that would load something else than what was judged.
_FOREIGN = ("model_args", "tokenizer_args", "config_args", "tokenizer_name_or_path", "backend")
# Keys of tokenizer_config.json that would do the same.
_OTHER_TOKENIZERS = ("fast_tokenizer_files", "tokenizer_file", "vocab_file", "merges_file")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that may be loaded, once its ``code``, if there is any, is allowed to run.

    ``backbone`` is the folder of the transformer; ``hidden`` and ``dimension`` are the widths before and after all
    projections; ``modules`` is how many there are with the transformer. ``digest`` covers weights, projections,
    tokenizer, code, and what the configurations of backbone and tokenizer compute.
    """

    directory: Path
    layout: Layout
    digest: str
    backbone: Path
    hidden: int
    dimension: int
    modules: int
    code: RemoteCode = field(default_factory=RemoteCode)


@dataclass(slots=True)
class _Modules:
    """What modules.json names: folders of transformers, projections with their widths, and types not on the list."""

    transformers: list[Path] = field(default_factory=list)
    projections: list[Path] = field(default_factory=list)
    widths: list[tuple[int, int]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def inspect(directory: Path) -> Checkpoint:
    """Judge a model directory; raises EncoderError with what is wrong, or ModelNotFoundError if it holds no model."""
    modules = read_json(directory / "modules.json")
    if modules is not None and not isinstance(modules, list):
        raise EncoderError(f"{directory / 'modules.json'} is not a list of modules.")
    if modules is not None or (directory / "config.json").exists():  # any other folder may be large
        check_kinds(directory)
    return _stanford(directory) if modules is None else _with_modules(directory, modules)


def check_kinds(directory: Path) -> None:
    """Raise EncoderError where a model directory holds what is neither a file nor a folder.

    Loaders read other files than those that are judged, too, such as README.md, and would wait for a pipe, or read a
    device, without end.
    """
    for path in directory.rglob("*"):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise EncoderError(f"{path} is neither a file nor a folder; delete it.")


def plain_backbone(directory: Path) -> Path:
    """The folder of the transformer of a model without a projection; raises EncoderError for one that has one."""
    modules = read_json(directory / "modules.json")
    found = _read_modules(directory, modules) if isinstance(modules, list) else _Modules()
    backbone = found.transformers[0] if found.transformers else directory
    if (backbone / "config.json").exists():
        check_kinds(directory)
    architectures = backbone_config(backbone).get("architectures")
    if found.projections or found.foreign or (isinstance(architectures, list) and "HF_ColBERT" in architectures):
        raise EncoderError(f"The model in {directory} has a projection of its own; it is used as it is.")
    tokenizer_file(backbone)
    return backbone


def _stanford(directory: Path) -> Checkpoint:
    config = backbone_config(directory)
    code = remote_code(directory, [directory], [])
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or architectures[:1] != ["HF_ColBERT"]:
        raise _no_projection(directory)
    weights = weights_file(directory)
    shapes = tensor_shapes(weights)
    shape = shapes.get(LINEAR)
    if shape is None or len(shape) != 2:
        raise _no_projection(directory)
    if BIAS in shapes:
        raise EncoderError(f"The projection in {weights} has a bias, and that of Stanford ColBERT has none.")
    check_sizes(config, weights)
    digest = checkpoint_digest([weights, tokenizer_file(directory), *code.files], _configurations(directory))
    return Checkpoint(directory, "stanford", digest, directory, shape[1], shape[0], 2, code)


def _with_modules(directory: Path, modules: list[object]) -> Checkpoint:
    found = _read_modules(directory, modules)
    if len(found.transformers) + len(found.foreign) == 0:
        raise ModelNotFoundError(f"{directory} holds no model: its modules.json names no transformer.")
    backbone = found.transformers[0] if found.transformers else directory
    if backbone.is_dir() or not found.foreign:
        backbone_config(backbone)
    code = remote_code(directory, [directory, *found.transformers], found.foreign)
    if not found.projections:
        raise _no_projection(directory)
    files = [weights_file(backbone)]
    check_sizes(backbone_config(backbone), files[0])
    for projection in found.projections:
        files += [projection / "config.json", weights_file(projection)]
    files += [tokenizer_file(backbone), *code.files]
    return Checkpoint(
        directory,
        _layout(directory, modules),
        checkpoint_digest(files, _configurations(backbone)),
        backbone,
        found.widths[0][0],
        found.widths[-1][1],
        len(found.transformers) + len(found.projections) + len(found.foreign),
        code,
    )


def _layout(directory: Path, modules: list[object]) -> Layout:
    """Whether the directory was written by PyLate, which keeps the settings of a ColBERT model, or is another's."""
    settings = read_json(directory / SETTINGS)
    told = isinstance(settings, dict) and (settings.get("model_type") == "ColBERT" or "document_prefix" in settings)
    own = any(str(module.get("type")).startswith("pylate.") for module in modules if isinstance(module, dict))
    return "pylate" if told or own else "sentence-transformers"


def _read_modules(directory: Path, modules: list[object]) -> _Modules:
    found = _Modules()
    for module in modules:
        if not isinstance(module, dict):
            raise EncoderError(f"{directory / 'modules.json'} is not a list of modules.")
        kind, path = str(module.get("type")), _inside(directory, str(module.get("path", "")))
        if kind in _TRANSFORMERS:
            _check_transformer(path)
            found.transformers.append(path)
        elif kind in _PROJECTIONS:
            found.projections.append(path)
            found.widths.append(_widths(path))
        elif kind.startswith(("sentence_transformers.", "pylate.")) and kind not in _IGNORED:
            raise EncoderError(f"The model in {directory} names the module {kind}, which is not one that is loaded.")
        elif kind not in _IGNORED:
            found.foreign.append(kind)
    for (_, width), (expected, _) in zip(found.widths, found.widths[1:], strict=False):
        if width != expected:
            raise EncoderError(f"The projections of the model in {directory} do not follow on each other.")
    return found


def _inside(directory: Path, name: str) -> Path:
    path = directory / name
    try:
        is_inside = path.resolve().is_relative_to(directory.resolve())
        path.is_dir()
    except (OSError, ValueError):
        raise EncoderError(f"The model in {directory} names a module by what can be no path.") from None
    if not is_inside:
        raise EncoderError(f"The model in {directory} names a module outside of its own directory.")
    return path


def _check_transformer(path: Path) -> None:
    """Raise EncoderError where the settings of a Transformer module would load something else than its folder."""
    for file in sorted(path.glob("sentence_*_config.json")):
        settings = read_json(file)
        foreign = [key for key in _FOREIGN if isinstance(settings, dict) and settings.get(key)]
        if foreign:
            raise EncoderError(f"{file} sets {', '.join(foreign)}, which would load what is not in its folder.")


def _widths(path: Path) -> tuple[int, int]:
    """The widths before and after a projection, whose activation must be one of torch's own."""
    config = read_json(path / "config.json")
    config = config if isinstance(config, dict) else {}
    activation = config.get("activation_function")
    if not isinstance(activation, str) or not activation.startswith(_ACTIVATIONS):
        raise EncoderError(f"The projection in {path} names an activation that is not one of torch's own.")
    shape = tensor_shapes(weights_file(path)).get(LINEAR, ())
    if len(shape) != 2:
        raise EncoderError(f"The projection in {path} has no {LINEAR}.")
    told = config.get("in_features"), config.get("out_features")
    if told != (shape[1], shape[0]):
        raise EncoderError(f"The projection in {path} tells of {told[0]} and {told[1]} features; it has {shape[::-1]}.")
    return shape[1], shape[0]


def backbone_config(directory: Path) -> dict[str, object]:
    """The config.json of a transformer; raises ModelNotFoundError where there is none, or EncoderError."""
    config = read_json(directory / "config.json")
    if not isinstance(config, dict):
        raise ModelNotFoundError(f"{directory} holds no model: it has no config.json.")
    if config.get("transformers_weights"):
        raise EncoderError(f"{directory / 'config.json'} names other weights than {WEIGHTS}, which are not read.")
    return config


def tokenizer_file(directory: Path) -> Path:
    """The tokenizer.json of a transformer; raises EncoderError where another tokenizer would be loaded."""
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise EncoderError(f"{directory} has no tokenizer.json; without it tokens cannot be traced to characters.")
    settings = read_json(directory / TOKENIZER_SETTINGS)
    foreign = [key for key in _OTHER_TOKENIZERS if isinstance(settings, dict) and settings.get(key)]
    if foreign:
        raise EncoderError(
            f"{directory / TOKENIZER_SETTINGS} sets {', '.join(foreign)}: another tokenizer than "
            f"{file} would be loaded."
        )
    return file


def _configurations(backbone: Path) -> list[Path]:
    """The files beside weights and tokenizer.json by which the loader decides what to compute."""
    return [backbone / "config.json", backbone / TOKENIZER_SETTINGS]


def _no_projection(directory: Path) -> EncoderError:
    return EncoderError(
        f"The model in {directory} has no ColBERT projection, so its token embeddings were never trained to be "
        "compared; name a ColBERT model (PyLate or Stanford layout) in [model] name, or put a fixed projection over it "
        f"on purpose: colbert-mcp model make-head {directory} --output DIR."
    )
