"""Twelve formulas of the Feynman set from 1000 noisy rows each, and refusal on noise alone.

    python benchmarks/symbolic.py                       # about an hour on a core
    python benchmarks/symbolic.py --only I.27.6 noise   # a minute or two

The formulas are equations of the Feynman Lectures as numbered in AI Feynman (Udrescu & Tegmark 2020, arXiv 1905.11481,
table 4), those with two variables in the dimensionless form of the KAN paper (Liu et al. 2024, arXiv 2404.19756, table
2). The rows are uniform in the stated ranges, and the target has normal noise of 1 % of its standard deviation. A
formula counts as recovered where the R2 of the closed formula on 200 held-out noisy rows is above 0.999 (it cannot be
above 0.9999). ``extrapolated_r2`` is that on 500 rows without noise from ranges that are a quarter longer at the upper
end: near 1 for those whose structure is right, minus infinity where the formula found is not defined there.

Adds a row per formula to ``benchmarks/results/symbolic.csv``; what is in the file already is not searched again.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from katops.benchmark import read_csv, write_csv
from katops.benchmark.machine import versions
from katops.interpret import find_formula
from katops.interpret.symbolic_result import worst_r2

OUTPUT = Path(__file__).parent / "results" / "symbolic.csv"
ROWS, NOISE = 1000, 0.01
RECOVERED = 0.999


@dataclass(frozen=True)
class Problem:
    """A formula and the ranges of its variables."""

    name: str
    formula: str
    function: Callable[..., np.ndarray]
    ranges: tuple[tuple[float, float], ...]

    def rows(self, count: int, seed: int, longer: float = 0.0) -> np.ndarray:
        """Rows (count, variables), uniform, from ranges that are longer by this share."""
        generator = np.random.default_rng(seed)
        return np.stack([generator.uniform(a, b + longer * (b - a), count) for a, b in self.ranges], axis=1)


def _noise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(len(a))


WIDE, NARROW = (1.0, 5.0), (1.0, 3.0)
PROBLEMS = [
    Problem(
        "I.6.2",
        "exp(-(a/b)^2/2)/(sqrt(2 pi) b)",
        lambda a, b: np.exp(-((a / b) ** 2) / 2) / b / np.sqrt(2 * np.pi),
        2 * (NARROW,),
    ),
    Problem("I.8.14", "sqrt((b-a)^2+(d-c)^2)", lambda a, b, c, d: np.hypot(b - a, d - c), 4 * (WIDE,)),
    Problem("I.12.2", "a b/(4 pi c d^2)", lambda a, b, c, d: a * b / (4 * np.pi * c * d**2), 4 * (WIDE,)),
    Problem("I.16.6", "(a+b)/(1+a b)", lambda a, b: (a + b) / (1 + a * b), 2 * ((0.1, 0.9),)),
    Problem("I.24.6", "a (b^2+c^2) d^2/4", lambda a, b, c, d: a * (b**2 + c**2) * d**2 / 4, 4 * (NARROW,)),
    Problem("I.27.6", "1/(1+a b)", lambda a, b: 1 / (1 + a * b), 2 * (WIDE,)),
    Problem("I.37.4", "a+b+2 sqrt(a b) cos(c)", lambda a, b, c: a + b + 2 * np.sqrt(a * b) * np.cos(c), 3 * (WIDE,)),
    Problem("I.44.4", "a b log(c/d)", lambda a, b, c, d: a * b * np.log(c / d), 4 * (WIDE,)),
    Problem("II.6.15a", "a sqrt(b^2+c^2)/(4 pi)", lambda a, b, c: a * np.hypot(b, c) / (4 * np.pi), 3 * (NARROW,)),
    Problem("II.11.27", "a b/(1-a b/3)", lambda a, b: a * b / (1 - a * b / 3), 2 * ((0.1, 1.0),)),
    Problem("III.10.19", "a sqrt(b^2+c^2+d^2)", lambda a, b, c, d: a * np.sqrt(b**2 + c**2 + d**2), 4 * (WIDE,)),
    Problem("III.17.37", "a (1+b cos(c))", lambda a, b, c: a * (1 + b * np.cos(c)), 3 * (WIDE,)),
    Problem("noise", "normal noise alone", _noise, 2 * (NARROW,)),
]


@dataclass(frozen=True)
class Row:
    """One search."""

    problem: str
    formula: str
    found: str
    accepted: bool
    held_out_r2: float
    extrapolated_r2: float
    network_r2: float
    network: str
    seconds: float
    versions: str


def searched(problem: Problem) -> Row:
    """Make the rows, search, measure."""
    x = problem.rows(ROWS, seed=0)
    clean = problem.function(*x.T)
    y = clean + NOISE * clean.std() * np.random.default_rng(100).standard_normal(ROWS)
    start = time.perf_counter()
    result = find_formula(x, y, columns=list("abcd")[: x.shape[1]], verbose=True)
    seconds = time.perf_counter() - start
    further = problem.rows(500, seed=1, longer=0.25)
    said = result.formula(further) if result.accepted else np.full(500, np.nan)
    return Row(
        problem.name,
        problem.formula,
        str(result.formula.rounded(5)) if result.accepted else result.reason,
        result.accepted,
        round(result.held_out_r2, 6),
        round(worst_r2(problem.function(*further.T), said), 6),
        round(result.network_r2, 6),
        result.attempts[0].name if result.attempts else "",
        round(seconds, 1),
        versions(),
    )


def main() -> None:
    """Search for what is not in the file yet, and tell how many were recovered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=[problem.name for problem in PROBLEMS], help="some of the formulas"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the CSV file")
    arguments = parser.parse_args()
    console = Console()
    for problem in PROBLEMS:
        rows = rows_of(arguments.output)
        if problem.name in {row.problem for row in rows} or problem.name not in (arguments.only or [problem.name]):
            continue
        row = searched(problem)
        console.print(f"{row.problem}: {row.held_out_r2}, {row.seconds} s, {row.found}")
        order = [known.name for known in PROBLEMS]
        write_csv(arguments.output, sorted([*rows, row], key=lambda r: order.index(r.problem)))
    rows = [row for row in rows_of(arguments.output) if row.problem != "noise"]
    recovered = sum(row.accepted and row.held_out_r2 > RECOVERED for row in rows)
    console.print(f"{recovered} of {len(rows)} formulas recovered")


def rows_of(path: Path) -> list[Row]:
    """What is in the file."""
    return read_csv(path, Row) if path.is_file() else []


if __name__ == "__main__":
    main()
