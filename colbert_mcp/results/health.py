"""What checking an index, and looking after everything around it, answers."""

from typing import Literal

from pydantic import Field

from colbert_mcp.results.base import Result


class CheckProblem(Result):
    """Something in the index that is not as it was written, or a source that is not what its size and time say."""

    kind: str = Field(description="catalogue, lookup, words, orphan, passage, former, segment, stray, chroma or source")
    where: str
    what: str
    mends: str = Field(description="the command that mends it")
    repaired: bool = False


class CheckCounts(Result):
    """How much was compared."""

    documents: int = 0
    passages: int = 0
    spans: int = Field(default=0, description="passages whose bytes, or extracted text, were hashed in their source")
    former: int = 0
    segments: int = 0
    files: int = 0
    bytes: int = Field(default=0, description="of the segments' files, hashed; 0 without read_data")
    records: int | None = Field(default=None, description="of Chroma; null where it is off or was not compared")


class SourceCounts(Result):
    """How the indexed files stand now. None of this is damage: index again to follow what has changed."""

    unchanged: int = 0
    changed: int = 0
    gone: int = 0
    unreadable: int = 0


class CheckOutput(Result):
    """What a check found, and what it repaired; ``sound`` if nothing is left to be repaired."""

    index: str
    generation: int
    read_data: bool
    sound: bool
    checked: CheckCounts
    sources: SourceCounts
    problems: list[CheckProblem] = Field(description="at most 200 are listed")
    total_problems: int
    done: list[str] = Field(default_factory=list, description="what was repaired, and how")
    seconds: float
    notice: str | None = None


class Finding(Result):
    """One thing that was looked at, and the command that mends it if it is not well."""

    topic: str
    state: Literal["ok", "warning", "error"]
    what: str
    mends: str | None = None


class DoctorOutput(Result):
    """Everything that colbert-mcp needs here, and what is wrong with it."""

    findings: list[Finding]
    errors: int
    warnings: int
