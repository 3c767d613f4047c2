"""Facts about the evaluation of classifiers: it counts what was predicted, exactly, whatever the batches."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from katops.errors import UserError
from katops.evaluation.classification import evaluate_classifier
from katops.evaluation.classification_result import wilson_interval

metrics = pytest.importorskip("sklearn.metrics")

CASES = st.tuples(st.integers(2, 9), st.integers(1, 60), st.integers(0, 2**31 - 1))


def make_case(n_classes, samples, seed):
    """Labels, and logits that are right more often than not; some classes may have no image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (samples,), generator=generator)
    logits = 2 * torch.randn(samples, n_classes, generator=generator, dtype=torch.float64)
    return labels, logits + 2 * nn.functional.one_hot(labels, n_classes)


def images_of(logits):
    """Images that hold their own logits, so that a predictor can read them off: (batch, 1, 1, K)."""
    return logits[:, None, None]


def read_off(images):
    return images[:, 0, 0]


def in_batches(images, labels, size):
    for start in range(0, len(images), size):
        yield images[start : start + size], labels[start : start + size]


def names(n_classes):
    return [f"class {k}" for k in range(n_classes)]


def run(labels, logits, size=7, **options):
    batches = in_batches(images_of(logits), labels, size)
    return evaluate_classifier({"model": read_off}, batches, names(logits.shape[1]), **options)


@settings(max_examples=50, deadline=None)
@given(CASES)
def test_counts_and_rates_are_those_of_scikit_learn(case):
    labels, logits = make_case(*case)
    scores = run(labels, logits).scores["model"]
    classes = list(range(logits.shape[1]))
    predicted = logits.argmax(1)
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(labels, predicted, labels=classes))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    # the balanced accuracy is the recall averaged over the classes that occur
    present = sorted(set(labels.tolist()))
    recall = metrics.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert scores.balanced_accuracy == pytest.approx(recall)
    log_loss = metrics.log_loss(labels, logits.softmax(1), labels=classes)
    assert scores.cross_entropy == pytest.approx(log_loss, rel=1e-9)
    table = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=math.nan)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), table, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    if logits.shape[1] > 5:
        assert scores.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=5, labels=classes))
    else:
        assert scores.top5 is None


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_the_calibration_error_is_that_of_torchmetrics(case):
    from torchmetrics.functional.classification import multiclass_calibration_error

    labels, logits = make_case(*case)
    theirs = multiclass_calibration_error(logits.softmax(1), labels, num_classes=logits.shape[1], n_bins=15)
    assert run(labels, logits).scores["model"].calibration_error == pytest.approx(float(theirs), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(CASES, st.integers(1, 20))
def test_the_size_of_the_batches_does_not_matter(case, size):
    labels, logits = make_case(*case)
    one, other = (run(labels, logits, size=s).to_dict() for s in (size, len(labels)))
    one.pop("images_per_second"), other.pop("images_per_second")
    first, second = one["predictors"]["model"], other["predictors"]["model"]
    assert first.pop("cross_entropy") == pytest.approx(second.pop("cross_entropy"))
    assert first.pop("expected_calibration_error") == pytest.approx(second.pop("expected_calibration_error"))
    ours, theirs = (np.array(entry.pop("calibration_bins")["confidence"], float) for entry in (first, second))
    np.testing.assert_allclose(ours, theirs)
    assert one == other


def test_a_perfectly_calibrated_classifier_has_no_calibration_error():
    # of ten images given 0.7, seven are right; of ten given 0.9, nine
    sure = torch.tensor([0.7] * 10 + [0.9] * 10, dtype=torch.float64)
    labels = torch.tensor([0] * 7 + [1] * 3 + [0] * 9 + [1])
    scores = run(labels, torch.stack([sure, 1 - sure], 1).log()).scores["model"]
    assert scores.calibration_error == pytest.approx(0, abs=1e-12)
    assert scores.bin_counts.sum() == 20
    assert scores.bin_accuracy[scores.bin_counts > 0] == pytest.approx([0.7, 0.9])


def test_a_classifier_that_is_always_sure_and_half_right_is_off_by_a_half():
    logits = torch.tensor([[1000.0, 0.0]] * 10)
    scores = run(torch.tensor([0, 1] * 5), logits).scores["model"]
    assert scores.calibration_error == pytest.approx(0.5)
    assert scores.bin_counts[-1] == 10


@pytest.mark.parametrize(
    ("hits", "trials", "expected"), [(0, 10, (0, 0.27753)), (10, 10, (0.72247, 1)), (81, 263, (0.25526, 0.36622))]
)
def test_the_interval_is_that_of_wilson(hits, trials, expected):
    # 81 of 263: the worked example of Newcombe 1998, table I, method 3
    assert wilson_interval(hits, trials) == pytest.approx(expected, abs=5e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10_000), st.data())
def test_the_interval_holds_the_accuracy_and_solves_the_score_equation(trials, data):
    hits = data.draw(st.integers(0, trials))
    share = hits / trials
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / trials, rel=1e-5, abs=1e-12)


def test_images_with_logits_that_are_not_finite_count_as_wrong():
    labels = torch.tensor([0, 1, 1, 0])
    logits = torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, math.inf], [math.nan, -1.0]])
    evaluation = run(labels, logits)
    scores = evaluation.scores["model"]
    assert scores.nonfinite == 2
    assert scores.accuracy == 0.5
    np.testing.assert_array_equal(scores.confusion, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(scores.recall, [0.5, 0.5])
    assert scores.bin_counts.sum() == 2
    assert scores.cross_entropy == math.inf
    assert {example.position for example in evaluation.examples} == {0, 1}
    assert evaluation.to_dict()["predictors"]["model"]["cross_entropy"] is None


def test_a_classifier_that_returns_nan_only_is_reported():
    scores = run(torch.tensor([0, 1]), torch.full((2, 2), math.nan)).scores["model"]
    assert scores.accuracy == 0
    assert math.isnan(scores.calibration_error)


def test_baselines_are_scored_beside_the_model_and_the_majority_is_counted():
    labels = torch.tensor([0, 1, 1, 1, 2])
    logits = nn.functional.one_hot(labels, 3).float()
    predictors = {"model": read_off, "constant": lambda x: torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)}
    evaluation = evaluate_classifier(predictors, in_batches(images_of(logits), labels, 2), names(3))
    assert (evaluation.model, evaluation.baselines) == ("model", ["constant"])
    assert evaluation.scores["model"].accuracy == 1
    assert evaluation.scores["constant"].accuracy == evaluation.majority == 0.6
    assert evaluation.scores["constant"].balanced_accuracy == pytest.approx(1 / 3)
    assert evaluation.chance == pytest.approx(1 / 3)
    assert evaluation.images_per_second > 0


def test_the_result_is_json_and_holds_no_images():
    labels, logits = make_case(4, 20, 0)
    result = json.loads(json.dumps(run(labels, logits).to_dict(), allow_nan=False))
    assert result["classes"] == names(4)
    confusion = np.zeros((4, 4), dtype=int)
    for true, guess, images in result["predictors"]["model"]["confusion"]:
        confusion[true, guess] = images
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(labels, logits.argmax(1)))
    assert "examples" not in result


def test_the_most_confident_mistakes_are_kept_first():
    labels, logits = make_case(4, 200, 3)
    examples = run(labels, logits, examples=9).examples
    probability, predicted = logits.softmax(1).max(1)
    wrong = torch.where(predicted != labels, probability, 0)
    assert [e.position for e in examples[:6]] == wrong.argsort(descending=True, stable=True)[:6].tolist()
    assert [e.role for e in examples] == ["mistake"] * 6 + ["random"] * 3
    assert len({e.position for e in examples}) == 9
    for example in examples:
        assert example.label == labels[example.position]
        assert example.predicted == predicted[example.position]
        assert example.probability == pytest.approx(probability[example.position].item())


def test_without_mistakes_all_kept_images_are_random_ones():
    labels = torch.arange(4).repeat(10)
    examples = run(labels, 9.0 * nn.functional.one_hot(labels, 4), examples=5).examples
    assert [e.role for e in examples] == ["random"] * 5
    assert run(labels, 9.0 * nn.functional.one_hot(labels, 4), examples=0).examples == []


def test_kept_images_are_denormalised_into_zero_to_one():
    images = torch.rand(6, 3, 4, 5)
    batches = [((images - 0.5) / 0.25, torch.zeros(6, dtype=torch.int64))]
    logits = torch.tensor([[0.0, 1.0]])
    predictors = {"model": lambda x: logits.expand(len(x), 2)}
    evaluation = evaluate_classifier(predictors, batches, names(2), denormalise=lambda x: x * 0.25 + 0.5)
    for example in evaluation.examples:
        np.testing.assert_allclose(example.image, images[example.position], atol=1e-6)
    for example in evaluate_classifier(predictors, batches, names(2)).examples:
        assert (example.image.min(), example.image.max()) == (0, pytest.approx(1))


def test_a_kept_image_does_not_keep_its_batch():
    image = run(*make_case(4, 50, 0), size=50, examples=1).examples[0].image
    assert image.base is None or image.base.nbytes == image.nbytes


def test_progress_counts_every_image():
    seen = []
    run(*make_case(3, 20, 0), size=8, progress=seen.append)
    assert seen == [8, 8, 4]


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (torch.tensor([0, 3]), torch.zeros(2, 3), "image 1 has label 3; with 3 classes, labels are 0 to 2"),
        (torch.tensor([-1, 0]), torch.zeros(2, 3), "image 0 has label -1"),
        (torch.tensor([0.0, 1.0]), torch.zeros(2, 3), "type torch.float32; expected .2,. whole numbers"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), "labels have shape .2, 3."),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3), "no image to evaluate"),
    ],
)
def test_bad_labels_are_told_in_a_sentence(labels, logits, message):
    with pytest.raises(UserError, match=message):
        run(labels, logits)


def test_bad_logits_classes_images_and_predictors_are_told_in_a_sentence():
    batch = [(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(UserError, match=r"returned shape \(2, 7\); expected \(batch 2, class 3\)"):
        evaluate_classifier({"model": lambda x: torch.zeros(2, 7)}, batch, names(3))
    with pytest.raises(UserError, match="1 class names; a classifier has at least 2"):
        evaluate_classifier({"model": read_off}, batch, names(1))
    with pytest.raises(UserError, match="no predictor"):
        evaluate_classifier({}, batch, names(3))
    with pytest.raises(UserError, match=r"expected \(batch, channel, height, width\)"):
        evaluate_classifier({"model": read_off}, [(torch.zeros(2, 4), torch.zeros(2).long())], names(3))
    with pytest.raises(UserError, match="examples=-1 is negative"):
        evaluate_classifier({"model": read_off}, batch, names(3), examples=-1)
