"""Looks at everything that colbert-mcp needs here, and says what is wrong with it and which command mends it.

``machine`` is the program, what it is made of, its settings, the processor and the model; ``place`` is the directory of
the index; ``content`` is what the index says of itself. Each part is looked at by itself, so that none that is broken
hides the others, and nothing is changed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from colbert_mcp.config import Config, load_config
from colbert_mcp.doctor.content import content
from colbert_mcp.doctor.machine import model, processor, program, reranker, settings
from colbert_mcp.doctor.place import directory, holder
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.results import DoctorOutput, Finding

__all__ = ["examine"]

Part = Callable[[], Iterator[Finding]]


def examine(
    file: Path | None, *, index: str | None, quick: bool, step: Callable[[str], None] = lambda _: None
) -> DoctorOutput:
    """Everything that was found. ``file`` and ``index`` are the options of the command line; ``quick`` leaves out what
    loads torch and the model; ``step`` is told what is looked at.
    """
    try:
        config = load_config(file, index=index)
    except ColbertMCPError:  # told by ``settings``; the rest is looked at with what can be known
        config = Config.model_validate({"index": {"path": index}}) if index else Config()
    parts: list[tuple[str, Part]] = [
        ("program", program),
        ("settings", lambda: settings(file, index)),
        ("index", lambda: directory(config)),
        ("engine", lambda: holder(config)),
        ("content", lambda: content(config)),
    ]
    if not quick:
        parts += [("processor", lambda: processor(config.model)), ("model", lambda: model(config))]
        parts += [("reranker", lambda: reranker(config))]
    findings: list[Finding] = []
    for topic, part in parts:
        step(f"looking at the {topic}")
        findings += [_for_index(config, finding) for finding in _looked_at(topic, part)]
    states = [finding.state for finding in findings]
    return DoctorOutput(findings=findings, errors=states.count("error"), warnings=states.count("warning"))


def _for_index(config: Config, finding: Finding) -> Finding:
    named = {"what": config.for_index(finding.what), "mends": finding.mends and config.for_index(finding.mends)}
    return finding.model_copy(update=named)


def _looked_at(topic: str, part: Part) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(part())
    except Exception as error:  # noqa: BLE001  # one part that is broken in an unforeseen way hides no other
        what = f"it cannot be looked at: {error}" if str(error) else f"it cannot be looked at ({type(error).__name__})"
        findings.append(Finding(topic=topic, state="error", what=what))
    return findings
