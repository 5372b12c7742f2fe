"""Signals: what can be known about an example, what is measured for it, what it costs.

A strategy names signals; a run measures what they are made of and nothing else. Signals made of
the same measurement share it: one forward pass gives likelihoods, error norms and entropies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.errors import StrategyError, did_you_mean

#: Returns the measurements of a signal so far, float64 ``[R, N]``, NaN = not measured.
Read = Callable[[str], FloatArray]

#: Measurement -> how often the model reads or writes a trace for it, per example and scored round
#: ("S": once per sampled completion).
MEASUREMENTS: dict[str, int | str] = {
    "samples": "S",  # sampled completions, answers checked
    "own answers": 0,  # what the completions state, compared with each other
    "certainty": 0,  # log-probabilities of the completions' tokens, while they are sampled
    "nll": 1,  # these five come from one forward pass over question and trace
    "el2n": 1,
    "grand": 1,
    "entropy": 1,
    "hes": 1,
    "alone": 1,  # a forward pass over the trace without its question
    "reference": 1,  # a forward pass of the reference model, once per example
    "prequential": "S",  # sampled completions, once per example, before it is trained on
    "embedding": 1,  # a forward pass over the question, train set and candidates
    "gradient": 3,  # forward and backward, train set and candidates
}
#: What one forward pass over question and trace gives together.
ONE_PASS = frozenset({"nll", "el2n", "grand", "entropy", "hes"})

#: What a scoring round measures; the others have moments of their own.
PER_ROUND = ONE_PASS | {"samples", "own answers", "certainty", "alone", "reference"}
#: What sampled completions give, and nothing else does.
OF_SAMPLES = frozenset({"samples", "own answers", "certainty"})


@dataclass(frozen=True)
class Signal:
    """What a signal is, and the measurements it is made of."""

    about: str
    needs: frozenset[str]


def _signal(about: str, *needs: str) -> Signal:
    return Signal(about, frozenset(needs))


SIGNALS: dict[str, Signal] = {
    "accuracy": _signal("share of the sampled completions that reach the right answer", "samples"),
    "premem": _signal("pre-memorization accuracy (arXiv 2411.07681)", "samples", "nll"),
    "agreement": _signal(
        "share of the sampled completions that state the most frequent answer",
        "samples",
        "own answers",
    ),
    "answer_entropy": _signal(
        "entropy of the sampled completions' answers, nats", "samples", "own answers"
    ),
    "self_certainty": _signal(
        "mean log-probability of the sampled completions' tokens, nats", "samples", "certainty"
    ),
    "unanswered": _signal(
        "share of the sampled completions that state no answer", "samples", "own answers"
    ),
    "mean_nll": _signal("negative log-likelihood of the trace, nats per token", "nll"),
    "loss": _signal("the same under its training name", "nll"),
    "delta_loss": _signal("loss at the previous measurement minus loss now", "nll"),
    "forgetting": _signal("times it went from mostly right to mostly wrong", "samples"),
    "confidence": _signal("mean over rounds of the trace's token probability", "nll"),
    "variability": _signal("standard deviation over rounds of the same", "nll"),
    "el2n": _signal("mean length of the error vector, probabilities minus token", "el2n"),
    "grand": _signal("norm of the loss gradient of the output layer", "grand"),
    "entropy": _signal("mean entropy of the predicted token, nats", "entropy"),
    "hes": _signal("summed entropy of the highest-entropy tokens, nats", "hes"),
    "ifd": _signal("loss of the trace given the question over its loss alone", "nll", "alone"),
    "reference_loss": _signal("loss under the reference model", "reference"),
    "prequential": _signal("accuracy just before it is first trained on", "prequential"),
    "length": _signal("tokens of the reference trace; known for all examples"),
    "difficulty": _signal("difficulty column of the data; known for all examples"),
    "embedding": _signal("mean hidden state over the question, a vector", "embedding"),
    "gradient": _signal("projected gradient of the loss, a vector", "gradient"),
}
#: Signals that hold a vector per example and are measured for each selection, not kept.
VECTORS = frozenset({"embedding", "gradient"})
#: Signals that never change.
FIXED = frozenset({"length", "difficulty"})


def measurements(signals: Iterable[str]) -> frozenset[str]:
    """What has to be measured for these signals, and nothing else.

    Raises:
        StrategyError: if a signal is unknown.

    Example:
        >>> sorted(measurements(["premem"]))
        ['nll', 'samples']
    """
    needs: set[str] = set()
    for name in signals:
        if name not in SIGNALS:
            raise StrategyError(f"There is no signal '{name}'. {did_you_mean(name, SIGNALS)}")
        needs |= SIGNALS[name].needs
    return frozenset(needs)


def relative_cost(signals: Iterable[str], *, samples: int = 5) -> int:
    """Passes of the model per scored example and round; a training step counts three.

    A sampled completion counts as one pass: it takes as many operations, though one token after
    the other. ``reference`` and ``prequential`` come once per example, not once per round.

    Example:
        >>> relative_cost(["premem"]), relative_cost(["loss", "el2n"]), relative_cost([])
        (6, 1, 0)
    """
    needs = measurements(signals)
    passes = {("one pass" if name in ONE_PASS else name): MEASUREMENTS[name] for name in needs}
    return sum(samples if count == "S" else int(count) for count in passes.values())


def history_of(signal: str, read: Read) -> FloatArray:
    """A signal over the rounds, float64 ``[R, N]``: as it was measured, or derived from that."""
    derive = _DERIVED.get(signal)
    return read(signal) if derive is None else derive(read)


def _delta_loss(read: Read) -> FloatArray:
    loss = read("mean_nll")
    previous = np.full_like(loss, np.nan)
    last = np.full(loss.shape[1], np.nan)
    for row, now in enumerate(loss):
        previous[row] = last
        np.copyto(last, now, where=~np.isnan(now))
    return previous - loss


def _forgetting(read: Read) -> FloatArray:
    accuracy = read("accuracy")
    count = np.full_like(accuracy, np.nan)
    right = np.zeros(accuracy.shape[1], dtype=bool)  # when it was last measured
    events = np.zeros(accuracy.shape[1])
    for row, now in enumerate(accuracy):
        known = ~np.isnan(now)
        events += known & right & (now < 0.5)
        np.copyto(right, now >= 0.5, where=known)
        count[row, known] = events[known]
    return count


def _running(read: Read) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the trace's token probability up to each round (Welford)."""
    probability = np.exp(-read("mean_nll"))
    mean, spread = np.full_like(probability, np.nan), np.full_like(probability, np.nan)
    count, average, squares = (np.zeros(probability.shape[1]) for _ in range(3))
    for row, now in enumerate(probability):
        known = ~np.isnan(now)
        count[known] += 1
        step = now[known] - average[known]
        average[known] += step / count[known]
        squares[known] += step * (now[known] - average[known])
        mean[row, known] = average[known]
        spread[row, known] = np.sqrt(squares[known] / count[known])
    return mean, spread


_DERIVED: dict[str, Callable[[Read], FloatArray]] = {
    "loss": lambda read: read("mean_nll"),
    "delta_loss": _delta_loss,
    "forgetting": _forgetting,
    "confidence": lambda read: _running(read)[0],
    "variability": lambda read: _running(read)[1],
}
#: Signals that are measured and stored, one column each; the others follow from them.
STORED = tuple(sorted(SIGNALS.keys() - _DERIVED.keys() - VECTORS - FIXED))
