"""What the runs of every task share: their result, the card of a model, warnings on the console."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from katops.bundle import Bundle
from katops.evaluation import Evaluation
from katops.evaluation.classification_result import ClassificationEvaluation

SPLITS = ("auto", "all", "train", "validation", "test")


@dataclass(frozen=True)
class RunResult:
    """What a training run left behind.

    Attributes:
        directory: the folder with ``model.safetensors``, ``summary.json``, ``metrics.csv``, ``report.html``, ...
        bundle: the model of the best epoch, ready to predict.
        evaluations: per test set, the main one first.
    """

    directory: Path
    bundle: Bundle
    evaluations: dict[str, Evaluation] | dict[str, ClassificationEvaluation]


def model_name(bundle: Bundle) -> str:
    """The registered name of the model."""
    return bundle.model.recipe["name"]


def model_card(bundle: Bundle) -> dict[str, Any]:
    """The entry ``model`` of a summary."""
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    card = {"name": model_name(bundle), "parameters": parameters, "arguments": bundle.model.recipe["arguments"]}
    conversion = bundle.header.get("conversion")
    if conversion is None:
        return card
    moved = {key: conversion["difference"][key] for key in ("relative", "measured_on")}
    told = {"blocks": conversion["blocks"], "difference_of_outputs": moved}
    return {**card, "conversion": told}


def warn(console: Console, texts: Sequence[str]) -> None:
    """Print sentences that a reader of the numbers has to know."""
    for text in texts:
        console.print(f"[bold red]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)
