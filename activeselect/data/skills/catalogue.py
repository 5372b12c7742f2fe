"""All skills of the built-in benchmark: what the base model knows, what it does not, and noise.

One real record of noise, whose steps nobody can predict::

    a witch sees 49 stars and 11 moons over 22 hills . what is the secret number ?
    so 49 turns 11 = 30 . then 30 turns 22 = 21 . thus answer : 21
"""

from __future__ import annotations

from activeselect.data.skills.mastered import MASTERED
from activeselect.data.skills.skill import Skill, Story
from activeselect.data.skills.unseen import UNSEEN

__all__ = ["MASTERED", "NOISE", "SKILLS", "UNSEEN"]

NOISE = (
    Skill(
        "omen",
        (
            Story(
                "a witch sees A stars and B moons over C hills . what is the secret number ?",
                "A turns B ; P turns C",
            ),
        ),
    ),
    Skill(
        "riddle",
        (
            Story(
                "a wizard draws A signs and adds B drops to C potions . which number comes next ?",
                "A turns B ; P turns C",
            ),
        ),
    ),
)

SKILLS = {skill.name: skill for skill in (*MASTERED, *UNSEEN, *NOISE)}
