"""Two evaluations on the same queries: paired differences, and which queries changed. Reads and writes rows.

Knows what ``evaluating`` returns; nothing of terminals.
"""

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from colbert_mcp.config import Config
from colbert_mcp.errors import ConfigError, UnreadableDocumentError, UnwritableFileError
from colbert_mcp.measuring.evaluating import Evaluation, evaluate_all
from colbert_mcp.measuring.metrics import METRICS, interval
from colbert_mcp.measuring.reading import open_regular
from colbert_mcp.measuring.tallying import Step, candidate_recall, estimates, latencies, values_of
from colbert_mcp.results.measuring import ChangedQuery, CompareOutput, Difference, EvalOutput, EvalRow, EvalRows

_EQUAL = 1e-9
_COMPARED = (
    "To compare two evaluations, give the files that `colbert-mcp eval DATASET --rows FILE` wrote; to compare two "
    "configurations, name a data set: colbert-mcp compare A B --on DATASET."
)
_MAX_ROWS_BYTES = 2**30  # some hundred thousand queries


def compare_configurations(
    a: Config, b: Config, dataset: Path, how: Evaluation, step: Step = lambda _: None
) -> CompareOutput:
    """Evaluate two configurations on the same queries, each query with both; raises what ``evaluate`` does."""
    named = [(config, partial(_told, step, name)) for name, config in (("A", a), ("B", b))]
    return compare(*evaluate_all(named, dataset, how, step))


def _told(step: Step, name: str, what: str) -> None:
    step(f"{name}: {what}")


def compare(a: EvalRows, b: EvalRows) -> CompareOutput:
    """Paired differences on the queries that both have; raises ConfigError where there are none, or they differ."""
    first, second = ({row.id: row for row in rows.rows} for rows in (a, b))
    common = [name for name in first if name in second]
    if not common:
        raise ConfigError("The two evaluations have no query in common; evaluate both on the same data set.")
    pairs = [(first[name], second[name]) for name in common]
    for one, other in pairs:
        if one.query != other.query or _judged(one) != _judged(other):
            raise ConfigError(f"The two evaluations have other queries or judgements ({one.id}); evaluate both anew.")
    left_out = len(first) + len(second) - 2 * len(common)
    return CompareOutput(
        a=_of_common(a.output, [one for one, _ in pairs]),
        b=_of_common(b.output, [other for _, other in pairs]),
        queries=len(pairs),
        settings=_different(a.output, b.output),
        differences=[_difference(metric, pairs) for metric in METRICS],
        changed=_changed(pairs),
        notices=[f"Left out: {left_out:,} queries that only one of the two has."] if left_out else [],
    )


def check_writable(file: Path, in_use: Iterable[Path]) -> None:
    """Raise UnwritableFileError where rows cannot be written to a file, before they are computed.

    Nothing is left there. ``in_use`` are the files and folders that the evaluation reads or keeps: rows replace none of
    them, and of other files only those of an earlier evaluation.
    """
    try:
        target = _target(file)
        if any(_is_within(target, used) for used in in_use):
            raise _refused(file, "this evaluation reads or keeps it")
        if target.exists() and not os.access(target, os.W_OK):
            raise _refused(file, "it is read-only")
        if target.exists() and target.stat().st_size and not _has_rows(target):
            raise _refused(file, "it is there, and not what eval --rows writes")
        with _beside(target):
            pass
    except OSError as error:
        raise _refused(file, str(error.strerror)) from None


def write_rows(rows: EvalRows, file: Path) -> None:
    """Write an evaluation with all of its queries, whole or not at all; raises UnwritableFileError where that fails."""
    try:
        target = _target(file)
        with _beside(target) as written:
            written.write_text(rows.model_dump_json(indent=1) + "\n", encoding="utf-8")
            if target.exists():
                written.chmod(stat.S_IMODE(target.stat().st_mode))
            written.replace(target)
    except OSError as error:
        raise _refused(file, str(error.strerror)) from None


def read_rows(file: Path) -> EvalRows:
    """What ``write_rows`` has written; raises UnreadableDocumentError for anything else."""
    try:
        with open_regular(file) as opened:
            content = opened.read(_MAX_ROWS_BYTES + 1)
        if len(content) > _MAX_ROWS_BYTES:
            raise UnreadableDocumentError(f"{file} is not what eval --rows writes: it is too large.")
        return EvalRows.model_validate_json(content)
    except UnreadableDocumentError as error:
        raise UnreadableDocumentError(f"{error} {_COMPARED}") from None
    except OSError as error:
        raise UnreadableDocumentError(f"Cannot read {file} ({error.strerror}). {_COMPARED}") from None
    except ValidationError:
        raise UnreadableDocumentError(f"{file} is not what eval --rows writes. {_COMPARED}") from None


def _has_rows(file: Path) -> bool:
    try:
        read_rows(file)
    except UnreadableDocumentError:
        return False
    return True


def _refused(file: Path, reason: str) -> UnwritableFileError:
    return UnwritableFileError(f"Cannot write {file} ({reason}); choose another file with --rows.")


def _target(file: Path) -> Path:
    """The file itself, or the one that it links to.

    Raises UnwritableFileError where that is no regular file, and OSError.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise _refused(file, "it is a link to nothing") from None
    else:
        if not stat.S_ISREG(status.st_mode):
            raise _refused(file, "it is not a regular file")
    return file.resolve()


def _is_within(target: Path, used: Path) -> bool:
    """Whether a file is another, or below it, under whatever names."""
    try:
        own = used.resolve()
        return target == own or own in target.parents or (target.exists() and own.exists() and target.samefile(own))
    except (OSError, RuntimeError):
        return False  # such as a loop of links: nothing that is read


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new file in the same folder, which is deleted unless it is moved away."""
    made = target.with_name(f".colbert-mcp-{secrets.token_hex(8)}")
    made.touch(exist_ok=False)
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


def _judged(row: EvalRow) -> Mapping[str, int]:
    return {judged.name: judged.relevance for judged in row.relevant}


def _of_common(output: EvalOutput, rows: Sequence[EvalRow]) -> EvalOutput:
    """An evaluation as if only these queries had been asked."""
    if len(rows) == output.queries:
        return output
    recall, compared = candidate_recall(rows)
    return output.model_copy(
        update={
            "queries": len(rows),
            "metrics": estimates(rows),
            "latency": latencies(rows),
            "candidate_recall_at_10": recall,
            "exhaustive_queries": compared,
        }
    )


def _different(a: EvalOutput, b: EvalOutput) -> list[str]:
    """The settings that differ, the mode included."""
    ours, theirs = ({"search.mode": output.mode, **_flat(output.settings)} for output in (a, b))
    return [
        f"{key}: {ours.get(key)} → {theirs.get(key)}"
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    ]


def _flat(settings: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    return {f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()}


def _difference(metric: str, pairs: Sequence[tuple[EvalRow, EvalRow]]) -> Difference:
    a, b = values_of([one for one, _ in pairs], metric), values_of([other for _, other in pairs], metric)
    change = b - a
    mean, low, high = interval(change)
    wins, losses = int(np.count_nonzero(change > _EQUAL)), int(np.count_nonzero(change < -_EQUAL))
    return Difference(
        metric=metric,
        a=float(a.mean()),
        b=float(b.mean()),
        difference=mean,
        low=low,
        high=high,
        wins=wins,
        ties=len(pairs) - wins - losses,
        losses=losses,
    )


def _changed(pairs: Sequence[tuple[EvalRow, EvalRow]]) -> list[ChangedQuery]:
    """Queries whose nDCG or first rank differs, those first whose nDCG and then reciprocal rank changed most."""
    changed = [pair for pair in pairs if _change(*pair) > (_EQUAL, 0.0) or pair[0].rank != pair[1].rank]
    return [
        ChangedQuery(
            id=one.id,
            query=one.query,
            ndcg_a=one.ndcg_at_10,
            ndcg_b=other.ndcg_at_10,
            rank_a=one.rank,
            rank_b=other.rank,
        )
        for one, other in sorted(changed, key=lambda pair: _change(*pair), reverse=True)
    ]


def _change(one: EvalRow, other: EvalRow) -> tuple[float, float]:
    reciprocal = [1 / row.rank if row.rank else 0.0 for row in (one, other)]
    return abs(other.ndcg_at_10 - one.ndcg_at_10), abs(reciprocal[1] - reciprocal[0])
