"""How well rankings do by what was judged, as trec_eval computes it, and how sure that is. Knows names and numbers.

Discounted gain is linear (Järvelin and Kekäläinen 2002). Intervals are percentiles of the bootstrap over queries, with
a fixed seed, so that every metric of the same queries is resampled alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from colbert_mcp.errors import ConfigError

METRICS = ("ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_10")
RESAMPLES = 2000
DEPTH = 100
_CUTOFF = 10
_SEED = 0
_BATCH_NUMBERS = 2_000_000
Numbers = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A mean, and the 95 % interval around it; without one for less than two values."""

    mean: float
    low: float | None
    high: float | None


def library() -> Any:
    """trec_eval's evaluator; raises ConfigError where the package is missing, which has no wheel for some platforms."""
    try:
        from pytrec_eval import RelevanceEvaluator
    except ImportError:
        raise ConfigError(
            "Metrics need the package pytrec-eval-terrier; run: python -m pip install pytrec-eval-terrier"
        ) from None
    return RelevanceEvaluator


def per_query(rankings: Sequence[Sequence[str]], relevance: Sequence[Mapping[str, int]]) -> Numbers:
    """METRICS of each ranking (names, best first, none twice) by the gains of what is relevant; float64 [n, 4], 0…1.

    Raises ConfigError where the library is missing.
    """
    evaluator = library()
    # Numbers stand for names: the library takes C strings, which cannot hold all of them.
    judged, deep, short = {}, {}, {}
    for number, (ranking, gains) in enumerate(zip(rankings, relevance, strict=True)):
        known: dict[str, str] = {}
        judged[str(number)] = {known.setdefault(name, str(len(known))): gain for name, gain in gains.items()}
        run = [known.setdefault(name, str(len(known))) for name in ranking[:DEPTH]]
        deep[str(number)] = {name: float(DEPTH - rank) for rank, name in enumerate(run)}
        short[str(number)] = dict(list(deep[str(number)].items())[:_CUTOFF])
    found = evaluator(judged, {"ndcg_cut.10", "recall.10,100"}).evaluate(deep)
    ranks = evaluator(judged, {"recip_rank"}).evaluate(short)
    names = ("ndcg_cut_10", "recall_10", "recall_100")
    return np.array(
        [[*(found[n][name] for name in names), ranks[n]["recip_rank"]] for n in judged], np.float64
    ).reshape(-1, len(METRICS))


def interval(values: Numbers) -> Interval:
    """The mean of values of queries (float64 [n]) with its 95 % bootstrap interval."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(_SEED),
        batch=max(1, _BATCH_NUMBERS // len(values)),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))
