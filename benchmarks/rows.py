"""A row of the result: two figures taken in turns in one run, their ratio, what it must reach."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

Row = dict[str, Any]
ROUNDS: Final = 5


class Budget(NamedTuple):
    """How much is measured. `quick` is for a look: fewer operations, three rounds, no judgement."""

    rounds: int = ROUNDS
    scale: float = 1.0

    def count(self, operations: int, at_least: int = 1) -> int:
        """So many operations in a round."""
        return max(at_least, int(operations * self.scale))


QUICK: Final = Budget(rounds=3, scale=0.2)
FULL: Final = Budget()
Measurement = Callable[[], float]


class Goal(NamedTuple):
    """What a row measures, beside what, and which ratio it has to reach (`gate`) and wants to reach (`goal`)."""

    identity: str
    measure: str
    baseline: str
    gate: float
    goal: float
    lower_is_better: bool = False


class Side(NamedTuple):
    """One side's figures, a figure a round."""

    figures: list[float]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.figures)

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest figure."""
        return min(self.figures), max(self.figures)


def take_turns(rounds: int, *measurements: Measurement) -> list[Side]:
    """A side per measurement, made in turns, so that all see the same machine. A first turn is not counted."""
    figures: list[list[float]] = [[] for _ in measurements]
    for turn in range(rounds + 1):
        for side, measure in zip(figures, measurements, strict=True):
            figure = measure()
            if turn:
                side.append(figure)
    return [Side(side) for side in figures]


def rate(operations: int, work: Callable[[], object]) -> float:
    """Operations a second of a piece of work."""
    start = time.perf_counter()
    work()
    return operations / (time.perf_counter() - start)


def make_row(goal: Goal, baseline: Side, ours: Side, conditions: str, **more: Any) -> Row:
    """The row of two sides."""
    ratio = ours.median / baseline.median
    return complete(
        {
            "id": goal.identity,
            "measure": goal.measure,
            "baseline": goal.baseline,
            "ours": significant(ours.median),
            "ours_span": [significant(figure) for figure in ours.span],
            "base": significant(baseline.median),
            "base_span": [significant(figure) for figure in baseline.span],
            "ratio": significant(ratio, 3),
            "gate": goal.gate,
            "goal": goal.goal,
            "lower_is_better": goal.lower_is_better,
            "conditions": conditions,
            **more,
        }
    )


def complete(row: Row) -> Row:
    """The row with its verdict."""
    reached = row["ratio"] <= row["gate"] if row["lower_is_better"] else row["ratio"] >= row["gate"]
    return {**row, "met_gate": bool(reached)}


def significant(figure: float, digits: int = 4) -> float:
    """A figure without digits that mean nothing."""
    rounded = float(f"{figure:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
