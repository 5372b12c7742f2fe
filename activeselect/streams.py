"""Streams of random numbers: one for each purpose, so that no draw depends on another."""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """The last word of a seed ``[seed, ..., stream]``; a number is never used for two purposes."""

    SAMPLER = 1  #: which examples a pass draws
    SHUFFLE = 2  #: in which order it reads them
    COMPLETIONS = 3  #: tokens of sampled completions
    SCORED = 4  #: train examples that are scored where ``scoring.limit`` is set
    SELECT = 5  #: a strategy's selection
    INITIAL = 6  #: the first train set of an acquiring run
    PROBE = 7  #: a strategy's probe
    CANDIDATES = 8  #: candidates that are scored before an acquisition
    WEIGH = 26  #: a strategy's weights over a train set that grows
    PROMPT = 9  #: worked examples in a prompt
    AUDITED = 19  #: problems that an audit asks
    RESAMPLED = 20  #: problems drawn again for an interval
    TRACES = 21  #: what an intervention changes in traces
    REWORDED = 22  #: rewordings of a train problem
    EDITED = 23  #: edits of a chain
    HELD_OUT = 25  #: train examples that judge a recipe
    WATCHED = 24  #: train examples whose memorization is watched
