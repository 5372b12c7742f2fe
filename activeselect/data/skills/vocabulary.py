"""Every word that a problem or a pretraining text can hold, in a fixed order.

First entries: ``<pad> <eos> <unk> 0 1 2 ... 60 + - . / : ...``
"""

from __future__ import annotations

from activeselect.data.skills.catalogue import SKILLS
from activeselect.data.skills.skill import (
    CLOSERS,
    ITEMS,
    NAMES,
    NUMBERS,
    OPENERS,
)

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def vocabulary() -> tuple[str, ...]:
    """All tokens; a token's position is its id.

    Example:
        >>> vocabulary()[:4]
        ('<pad>', '<eos>', '<unk>', '0')
    """
    words = {*"+-x/=.:", "turns", "answer", *NAMES, *ITEMS, *OPENERS, *CLOSERS}
    for skill in SKILLS.values():
        for story in (*skill.stories, *skill.simple):
            words.update(story.words())
    return (PAD, EOS, UNK, *NUMBERS, *sorted(words - set(NUMBERS)))
