import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_mcp.encoder import hardware, scoring
from colbert_mcp.encoder.scoring import Int8Scorer, ResidentScorer, scorer_for
from colbert_mcp.maxsim import Floats, TokenMatrix, best_matches, quantise
from colbert_mcp.scoring import ROUGH_TOLERANCE, TOLERANCE, NumpyScorer, PooledMatrix, Scorer

# The scorer of a GPU computes on the processor here: the same code, on another device.
SCORERS = {"numpy": NumpyScorer, "int8": Int8Scorer, "resident": lambda: ResidentScorer("cpu", NumpyScorer())}
if torch.cuda.is_available():
    SCORERS["cuda"] = lambda: ResidentScorer("cuda", NumpyScorer())
DIMENSION = 32
seeds = st.integers(0, 2**32 - 1)
every_scorer = pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
Make = Callable[[], Scorer]


def rows(seed: int, count: int, dimension: int = DIMENSION) -> Floats:
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def tokens_of(seed: int, lengths: list[int], dimension: int = DIMENSION) -> TokenMatrix:
    values, scales = quantise(rows(seed, sum(lengths), dimension))
    return TokenMatrix(values, scales, np.cumsum([0, *lengths]).astype(np.int64))


def pooled_of(seed: int, count: int, k: int) -> PooledMatrix:
    values, scales = quantise(rows(seed, count * k))
    return PooledMatrix(values.reshape(count, k, DIMENSION), scales.reshape(count, k))


def defined(query: Floats, values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Inner products in double precision."""
    products: np.ndarray = query.astype(np.float64) @ (values.astype(np.float64) * scales.astype(np.float64)[:, None]).T
    return products


@every_scorer
@settings(max_examples=40, deadline=None)
@given(seed=seeds, lengths=st.lists(st.integers(0, 40), max_size=20), asked=st.integers(1, 40), data=st.data())
def test_scorers_agree_with_the_definition(
    make: Make, seed: int, lengths: list[int], asked: int, data: st.DataObject
) -> None:
    query, tokens = rows(seed, asked), tokens_of(seed + 1, lengths)
    products = defined(query, tokens.values, tokens.scales)
    expected = np.full((asked, len(lengths)), -1.0)
    for chunk, (start, end) in enumerate(zip(tokens.offsets, tokens.offsets[1:], strict=False)):
        if end > start:
            expected[:, chunk] = products[:, start:end].max(axis=1)
    found = make().best_matches(query, tokens)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9)) if lengths else [], np.int64)
    np.testing.assert_allclose(make().best_matches(query, tokens, chosen), expected[:, chosen], atol=TOLERANCE)


@every_scorer
@settings(max_examples=40, deadline=None)
@given(seed=seeds, count=st.integers(0, 500), k=st.sampled_from([1, 3, 16]), asked=st.integers(1, 40), data=st.data())
def test_pooled_scores_agree_with_the_definition(
    make: Make, seed: int, count: int, k: int, asked: int, data: st.DataObject
) -> None:
    query, pooled = rows(seed, asked), pooled_of(seed + 1, count, k)
    products = defined(query, pooled.values.reshape(-1, DIMENSION), pooled.scales.reshape(-1))
    expected = products.reshape(asked, count, k).max(axis=2)
    found = make().best_pooled_matches(query, pooled)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=ROUGH_TOLERANCE)
    chosen = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=9)) if count else [], np.int64)
    np.testing.assert_allclose(
        make().best_pooled_matches(query, pooled, chosen), expected[:, chosen], atol=ROUGH_TOLERANCE
    )


@every_scorer
def test_queries_of_any_size_are_scored_as_exactly(make: Make) -> None:
    tokens = tokens_of(1, [30, 20])
    for size in (1e-6, 1.0, 1e4):
        query = rows(2, 5) * np.float32(size)
        np.testing.assert_allclose(
            make().best_matches(query, tokens), best_matches(query, tokens), atol=TOLERANCE * size, rtol=TOLERANCE
        )
    assert not make().best_matches(np.zeros((2, DIMENSION), np.float32), tokens).any()


@pytest.mark.parametrize("make", [SCORERS["numpy"], SCORERS["int8"]], ids=["numpy", "int8"])
def test_on_the_processor_a_score_is_the_same_to_the_bit_whatever_it_is_computed_beside(make: Make) -> None:
    lengths = np.random.default_rng(1).integers(1, 90, 300).tolist()
    query, tokens = rows(2, 7), tokens_of(3, lengths)
    together = make().best_matches(query, tokens)
    for chunk in (0, 1, 150, 299):
        alone = make().best_matches(query, tokens, np.array([chunk]))
        assert np.array_equal(alone[:, 0], together[:, chunk])


def test_the_best_ten_of_a_device_are_those_of_numpy() -> None:
    tokens = tokens_of(1, [40] * 800)
    for seed in range(20):
        query = rows(seed, 8)
        own = NumpyScorer().best_matches(query, tokens).mean(axis=0)
        for make in SCORERS.values():
            scores = make().best_matches(query, tokens).mean(axis=0)
            best = np.argsort(-scores)[:10]
            # Where two are nearer than the tolerance, either order is right.
            assert np.all(own[best] >= np.sort(own)[-10] - TOLERANCE)
            assert np.abs(own - scores).max() < TOLERANCE


@every_scorer
@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 33, 1023, 1024, 1025, 2048])
def test_vectors_of_any_dimension_are_scored(make: Make, dimension: int) -> None:
    lengths = [5, 0, 1, 9]
    # Flat vectors are those whose products are largest.
    flat = np.full((1, dimension), dimension**-0.5, np.float32)
    values, scales = quantise(np.concatenate([rows(1, 14, dimension), -flat]))
    offsets = np.cumsum([0, *lengths[:-1], lengths[-1]]).astype(np.int64)
    tokens = TokenMatrix(values, scales, offsets)
    pooled = PooledMatrix(values.reshape(5, 3, dimension), scales.reshape(5, 3))
    query = np.concatenate([rows(2, 3, dimension), flat, -flat])
    np.testing.assert_allclose(
        make().best_matches(query, tokens), best_matches(query, tokens), atol=TOLERANCE * max(1, dimension**0.5 / 8)
    )
    np.testing.assert_allclose(
        make().best_pooled_matches(query, pooled),
        NumpyScorer().best_pooled_matches(query, pooled),
        atol=ROUGH_TOLERANCE,
    )


def test_a_device_whose_memory_is_too_little_for_products_leaves_them_to_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scarce(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(scoring._Resident, "_products", scarce)
    processor = Counting()
    scorer = ResidentScorer("cpu", processor)
    tokens, pooled, query = tokens_of(1, [5] * 4), pooled_of(2, 4, 2), rows(3, 4)
    np.testing.assert_allclose(scorer.best_matches(query, tokens), best_matches(query, tokens), atol=TOLERANCE)
    scorer.best_pooled_matches(query, pooled)
    assert processor.asked == 2


@every_scorer
def test_many_chunks_are_scored_block_by_block_without_a_seam(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_BLOCK", 64)
    monkeypatch.setattr(scoring, "_DEVICE_PRODUCTS", 2048)
    lengths = np.random.default_rng(1).integers(0, 30, 200).tolist()
    lengths[100] = 500  # longer than a block
    query, tokens, pooled = rows(2, 6), tokens_of(3, lengths), pooled_of(4, 300, 3)
    np.testing.assert_allclose(make().best_matches(query, tokens), best_matches(query, tokens), atol=TOLERANCE)
    np.testing.assert_allclose(
        make().best_pooled_matches(query, pooled),
        NumpyScorer().best_pooled_matches(query, pooled),
        atol=ROUGH_TOLERANCE,
    )


@every_scorer
def test_tokens_kept_in_float16_are_scored(make: Make) -> None:
    embeddings = rows(1, 60)
    offsets = np.array([0, 20, 20, 60], np.int64)
    tokens = TokenMatrix(embeddings.astype(np.float16), np.ones(60, np.float16), offsets)
    query = rows(2, 5)
    products = query @ embeddings.astype(np.float16).astype(np.float32).T
    expected = np.stack([products[:, :20].max(axis=1), np.full(5, -1.0), products[:, 20:].max(axis=1)], axis=1)
    np.testing.assert_allclose(make().best_matches(query, tokens), expected, atol=TOLERANCE)


class Counting:
    """A scorer that says what was left to it."""

    name = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def best_matches(self, query: Floats, tokens: TokenMatrix, rows: np.ndarray | None = None) -> Floats:
        self.asked += 1
        return NumpyScorer().best_matches(query, tokens, rows)

    def best_pooled_matches(self, query: Floats, pooled: PooledMatrix, rows: np.ndarray | None = None) -> Floats:
        self.asked += 1
        return NumpyScorer().best_pooled_matches(query, pooled, rows)


def test_what_does_not_fit_a_device_is_scored_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, pooled, query = tokens_of(1, [50] * 40), pooled_of(2, 4, 2), rows(3, 4)
    for free, left in ((10**9, 0), (2 * pooled.values.nbytes + 100, 1), (0, 2)):
        monkeypatch.setattr(scoring, "free_memory", lambda _, free=free: free)
        processor = Counting()
        scorer = ResidentScorer("cpu", processor)
        np.testing.assert_allclose(scorer.best_matches(query, tokens), best_matches(query, tokens), atol=TOLERANCE)
        scorer.best_pooled_matches(query, pooled)
        assert processor.asked == left


def test_a_device_without_memory_leaves_the_matrix_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(scoring, "_Resident", full)
    processor = Counting()
    ResidentScorer("cpu", processor).best_matches(rows(1, 2), tokens_of(2, [3]))
    assert processor.asked == 1


def test_a_matrix_is_copied_once_and_let_go_of_with_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = scoring._Resident
    monkeypatch.setattr(scoring, "_Resident", lambda *parts: made.append(1) or real(*parts))
    scorer = ResidentScorer("cpu", NumpyScorer())
    tokens, other = tokens_of(1, [5, 6]), tokens_of(2, [5, 6])
    for _ in range(3):
        scorer.best_matches(rows(1, 2), tokens)
        scorer.best_matches(rows(1, 2), other)
    assert (len(made), len(scorer._resident)) == (2, 2)
    del tokens
    gc.collect()
    assert len(scorer._resident) == 1


def test_the_scorer_suits_the_device_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, name in (({"avx512_vnni": True}, "int8 on cpu"), ({"avx2": True}, "float32 on cpu")):
        monkeypatch.setattr(hardware.torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert scorer_for("cpu").name == name
        assert scorer_for("cuda").name == f"float32 on cuda, what does not fit {name}"
