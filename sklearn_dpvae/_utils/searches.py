"""Searches over parameters, seen through to what they found. Imports nothing of this package."""

from typing import Any


def best_of(estimator: Any) -> Any:
    """The estimator that a fitted search chose, or the estimator itself."""
    return getattr(estimator, "best_estimator_", estimator)
