from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from colbert_mcp.maxsim import (
    Floats,
    TokenMatrix,
    maxsim,
    pool,
    quantise,
    similarities,
)

DIMENSION = 24
lengths_of_chunks = st.lists(st.integers(0, 9), max_size=12)
seeds = st.integers(0, 2**32 - 1)


def rows(seed: int, count: int, dimension: int = DIMENSION) -> Floats:
    """Rows of length 1."""
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def matrix(chunks: list[Floats]) -> TokenMatrix:
    values, scales = quantise(np.concatenate([np.zeros((0, DIMENSION), np.float32), *chunks]))
    return TokenMatrix(values, scales, np.cumsum([0, *map(len, chunks)]).astype(np.int64))


def chunks_of(seed: int, lengths: list[int]) -> list[Floats]:
    return [rows(seed + index, length) for index, length in enumerate(lengths)]


def naive(query: Floats, tokens: TokenMatrix) -> list[float]:
    """MaxSim by its definition, in double precision."""
    stored = tokens.values.astype(np.float64) * tokens.scales.astype(np.float64)[:, None]
    scores = []
    for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
        best = (
            [max(sum(a * b for a, b in zip(q, t, strict=True)) for t in stored[start:end]) for q in query]
            if (end > start)
            else [-1.0] * len(query)
        )
        scores.append(sum(best) / len(query))
    return scores


@settings(max_examples=40)
@given(seeds, lengths_of_chunks, st.integers(1, 5))
def test_maxsim_is_what_its_definition_says(seed: int, lengths: list[int], query_length: int) -> None:
    query, tokens = rows(seed, query_length), matrix(chunks_of(seed + 1, lengths))
    scores = maxsim(query, tokens)
    assert (scores.dtype, scores.shape) == (np.float32, (len(lengths),))
    assert scores == pytest.approx(naive(query.astype(np.float64), tokens), abs=1e-5)


@settings(max_examples=40)
@given(seeds, lengths_of_chunks, st.randoms(use_true_random=False))
def test_a_score_does_not_depend_on_the_neighbours_or_the_order(seed: int, lengths: list[int], random: Random) -> None:
    query, chunks = rows(seed, 4), chunks_of(seed + 1, lengths)
    together = maxsim(query, matrix(chunks))
    alone = [maxsim(query, matrix([chunk]))[0] for chunk in chunks]
    assert together == pytest.approx(alone, abs=1e-6)
    order = list(range(len(chunks)))
    random.shuffle(order)
    shuffled = maxsim(query, matrix([chunks[index] for index in order]))
    assert shuffled == pytest.approx([together[index] for index in order], abs=1e-6)


def test_many_chunks_are_scored_block_by_block_without_a_seam() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 700, 400).tolist()
    lengths[100] = 70_000  # longer than a block
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    tokens = TokenMatrix(*quantise(rows(2, int(offsets[-1]), 8)), offsets)
    query = rows(3, 6, 8)
    stored = tokens.values.astype(np.float64) * tokens.scales.astype(np.float64)[:, None]
    products = query.astype(np.float64) @ stored.T
    expected = [
        products[:, a:b].max(axis=1).mean() if b > a else -1.0 for a, b in zip(offsets, offsets[1:], strict=False)
    ]
    assert maxsim(query, tokens) == pytest.approx(expected, abs=1e-5)


def test_a_chunk_that_holds_the_query_scores_one_and_its_opposite_minus_one() -> None:
    query = rows(5, 3)
    scores = maxsim(
        query, matrix([np.concatenate([rows(6, 4), query]), -query[:1], np.zeros((0, DIMENSION), np.float32)])
    )
    assert scores[0] == pytest.approx(1, abs=0.01)
    assert maxsim(query[:1], matrix([-query[:1]]))[0] == pytest.approx(-1, abs=0.01)
    assert scores[2] == -1


@pytest.mark.parametrize("lengths", [[0], [0, 0], [0, 3, 0, 0, 2, 0]])
def test_chunks_without_tokens_score_minus_one(lengths: list[int]) -> None:
    scores = maxsim(rows(1, 2), matrix(chunks_of(2, lengths)))
    assert [score == -1 for score in scores] == [length == 0 for length in lengths]


def test_no_chunks_have_no_scores() -> None:
    assert maxsim(rows(1, 2), matrix([])).shape == (0,)


def test_similarities_are_inner_products_with_the_rows_asked_for() -> None:
    query, tokens = rows(1, 3), matrix(chunks_of(2, [4, 5]))
    stored = tokens.values * tokens.scales.astype(np.float32)[:, None]
    assert similarities(query, tokens) == pytest.approx(query @ stored.T, abs=1e-6)
    assert similarities(query, tokens, 2, 7) == pytest.approx((query @ stored.T)[:, 2:7], abs=1e-6)


# Storage

numbers = st.floats(-1, 1, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-7, -1e-30, 0.5])


@settings(max_examples=300)
@given(st.lists(st.lists(numbers, min_size=5, max_size=5), max_size=6), st.sampled_from([1.0, 1e-3, 30.0, 1000.0]))
def test_a_stored_row_is_within_half_a_step_of_the_row(table: list[list[float]], size: float) -> None:
    embeddings = np.array(table, np.float32).reshape(-1, 5) * np.float32(size)
    values, scales = quantise(embeddings)
    assert (values.dtype, scales.dtype) == (np.int8, np.float16)
    steps = scales.astype(np.float64)[:, None]
    assert np.all(np.isfinite(steps))
    error = np.abs(values.astype(np.float64) * steps - embeddings)
    assert np.all(error <= steps * (0.5 + 1e-4))
    # And a step is about a 127th of the largest number, or the smallest there is.
    peaks = np.abs(embeddings).max(axis=1, initial=0).astype(np.float64)
    assert np.all(steps[:, 0] <= peaks / 127 * 1.002 + 2e-7)


def test_a_row_of_zeros_is_stored_as_zeros() -> None:
    values, scales = quantise(np.zeros((2, 4), np.float32))
    assert not values.any()
    assert np.all(np.isfinite(scales))


def test_nothing_is_stored_of_no_rows() -> None:
    values, scales = quantise(np.zeros((0, 4), np.float32))
    assert (values.shape, scales.shape) == ((0, 4), (0,))


@settings(max_examples=60)
@given(seeds, lengths_of_chunks.filter(bool), st.data())
def test_taken_chunks_are_the_ones_asked_for_in_that_order(seed: int, lengths: list[int], data: st.DataObject) -> None:
    tokens = matrix(chunks_of(seed, lengths))
    wanted = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = tokens.take(np.array(wanted, np.int64))
    assert taken.offsets.dtype == np.int64
    assert np.diff(taken.offsets).tolist() == [lengths[index] for index in wanted]
    for position, index in enumerate(wanted):
        target = slice(taken.offsets[position], taken.offsets[position + 1])
        source = slice(tokens.offsets[index], tokens.offsets[index + 1])
        assert np.array_equal(taken.values[target], tokens.values[source])
        assert np.array_equal(taken.scales[target], tokens.scales[source])
    assert taken.values.base is None or taken.values.base is not tokens.values


# Pooling


@settings(max_examples=80)
@given(seeds, st.integers(1, 90), st.integers(1, 40))
def test_pooling_gives_k_rows_of_length_one(seed: int, count: int, k: int) -> None:
    pooled = pool(rows(seed, count), k)
    assert (pooled.shape, pooled.dtype) == ((k, DIMENSION), np.float32)
    assert np.linalg.norm(pooled, axis=1) == pytest.approx(np.ones(k), abs=1e-5)


@settings(max_examples=60)
@given(seeds, st.integers(1, 8), st.integers(8, 20))
def test_fewer_rows_than_k_are_repeated_which_changes_no_maxsim(seed: int, count: int, k: int) -> None:
    chunk, query = rows(seed, count), rows(seed + 1, 4)
    pooled = pool(chunk, k)
    assert {row.tobytes() for row in pooled} == {row.tobytes() for row in chunk}
    assert (query @ pooled.T).max(axis=1) == pytest.approx((query @ chunk.T).max(axis=1), abs=1e-6)


def test_a_chunk_without_rows_pools_to_zeros() -> None:
    assert not pool(np.zeros((0, 4), np.float32), 3).any()


@pytest.mark.parametrize("noise", [0, 1e-8, 1e-7, 1e-6])
def test_equal_and_nearly_equal_rows_pool_to_themselves(noise: float) -> None:
    rng = np.random.default_rng(1)
    row = rows(1, 1)
    chunk = np.repeat(row, 40, axis=0) + rng.normal(scale=noise, size=(40, DIMENSION)).astype(np.float32)
    pooled = pool(chunk, 8)
    assert pooled.shape == (8, DIMENSION)
    assert pooled @ row[0] == pytest.approx(np.ones(8), abs=1e-4)


def test_rows_in_clear_clusters_pool_to_the_directions_of_the_clusters() -> None:
    rng = np.random.default_rng(3)
    centres = np.eye(6, DIMENSION, dtype=np.float32)
    chunk = np.repeat(centres, [1, 2, 3, 10, 20, 5], axis=0)
    chunk = chunk + rng.normal(scale=0.01, size=chunk.shape).astype(np.float32)
    chunk = (chunk / np.linalg.norm(chunk, axis=1, keepdims=True))[rng.permutation(len(chunk))]
    pooled = pool(chunk, 6)
    assert (centres @ pooled.T).max(axis=1) == pytest.approx(np.ones(6), abs=0.01)


@pytest.mark.parametrize(
    ("count", "k"), [(2000, 32), (2000, 3), (2000, 1), (1025, 3), (513, 32), (2000, 1999), (1537, 7)]
)
def test_a_long_chunk_pools_to_k_rows_of_length_one(count: int, k: int) -> None:
    pooled = pool(rows(4, count), k)
    assert pooled.shape == (k, DIMENSION)
    assert np.linalg.norm(pooled, axis=1) == pytest.approx(np.ones(k), abs=1e-5)


@settings(max_examples=60)
@given(seeds, st.integers(2, 200), st.integers(1, 40))
def test_rows_pool_to_the_means_of_wards_clusters(seed: int, count: int, k: int) -> None:
    chunk = rows(seed, count)
    distances = np.clip(1 - chunk.astype(np.float64) @ chunk.T.astype(np.float64), 0, 2)
    np.fill_diagonal(distances, 0)
    merges = linkage(squareform(distances, checks=False), method="ward")
    labels = fcluster(merges, k, criterion="maxclust")
    assume(len(np.unique(labels)) == min(k, count))  # else there were ties
    means = np.stack([chunk[labels == label].mean(axis=0) for label in np.unique(labels)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (means @ pool(chunk, k).T).max(axis=1) == pytest.approx(np.ones(len(means)), abs=1e-4)


def test_every_part_of_a_long_chunk_has_its_share_of_the_pool() -> None:
    # Four directions, one after the other: a pool of four holds each of them.
    chunk = np.repeat(np.eye(4, DIMENSION, dtype=np.float32), 500, axis=0)
    assert (np.eye(4, DIMENSION, dtype=np.float32) @ pool(chunk, 4).T).max(axis=1) == pytest.approx(
        np.ones(4), abs=1e-5
    )
