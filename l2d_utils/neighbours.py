"""Prompts come in clusters: features and a free scorer that follow the nearest training prompts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.kernel_approximation import Nystroem
from sklearn.neighbors import NearestNeighbors

from l2d_utils.text import embed_tfidf
from l2d_utils.validate import check_costs, check_matrix, check_positive


def kernel_features(
    prompts: Sequence[str], embeddings: NDArray, scores: NDArray, train: NDArray, *, dim: int = 300,
    neighbours: int = 50,
) -> NDArray[np.float64]:  # fmt: skip
    """Features that let a linear router follow clusters of prompts, (n, dim + K), fitted on the training rows.

    Landmark (Nyström) features of a Gaussian kernel on embeddings and TF-IDF words side by side [prior: Williams,
    Seeger 2001], and the mean score of every agent on the nearest training prompts, a training row not counting
    itself [prior: k nearest neighbours as a router].

    Args:
        prompts: all n texts. embeddings: (n, e), rows of length 1.
        scores: (n, K), used on training rows only. train: row numbers.
    """
    words = embed_tfidf([prompts[i] for i in train], prompts, min(256, dim), 0)[1]
    both = np.hstack([embeddings, words])
    kernel = Nystroem(gamma=1.0, n_components=dim, random_state=0).fit(both[train]).transform(both)
    near = NearestNeighbors(n_neighbors=neighbours + 1).fit(both[train]).kneighbors(both, return_distance=False)
    own = np.full(len(both), -1)
    own[train] = np.arange(len(train))
    counts = near != own[:, None]
    counts[counts.all(axis=1), -1] = False  # rows that are not their own neighbour: the nearest ones all the same
    means = np.einsum("nk,nka->na", counts, scores[train][near]) / counts.sum(axis=1, keepdims=True)
    return np.hstack([kernel, means])


class NeighbourRouter(BaseEstimator):
    """DR-CPE with a free scorer: log density ratios from the nearest training inputs.  [ours]

    s_k(x) = log of the mean of exp(−c_k/λ) over the neighbours of x, the pointwise minimiser of the DR-CPE loss on
    them. With a free scorer margins are offsets −log ρ_k, so this router with offsets is margin DR-CPE. As λ → ∞ it
    orders the agents like the plain k-nearest-neighbour router.

    Args:
        n_neighbors: k. temperature: λ, in the unit of the costs.
    """

    def __init__(self, n_neighbors=50, temperature=1.0):
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    def fit(self, X: ArrayLike, costs: ArrayLike) -> "NeighbourRouter":
        """Keep features (n, d), n ≥ k, and costs (n, K)."""
        costs = check_costs(costs)
        self.tilts_ = np.exp((costs.min() - costs) / check_positive("temperature", self.temperature))
        self.neighbours_ = NearestNeighbors(n_neighbors=self.n_neighbors).fit(check_matrix("X", X))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (n, K)."""
        near = self.neighbours_.kneighbors(check_matrix("X", X), return_distance=False)
        return np.log(np.maximum(self.tilts_[near].mean(axis=1), np.finfo(np.float64).tiny))

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)
