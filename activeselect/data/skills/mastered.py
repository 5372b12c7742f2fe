"""Skills that the base model is trained on: two steps, and it answers nearly all of them.

One real record (story and program are the sources of a question and its trace)::

    ben has 18 kites and gets 20 more but then loses 14 . how many kites now ?
    now 18 + 20 = 38 . here 38 - 14 = 24 . so answer : 24
"""

from __future__ import annotations

from activeselect.data.skills.skill import Skill, Story

MASTERED = (
    Skill(
        "buy",
        (
            Story(
                "N has A I and buys/gets B more but then loses C . how many I now ?",
                "A + B ; P - C",
            ),
            Story(
                "N has A I but loses B and then buys/gets C more . how many I now ?",
                "A - B ; P + C",
            ),
        ),
    ),
    Skill(
        "boxes",
        (
            Story(
                "there are A boxes with B I each and C more I on the table . how many in all ?",
                "A x B ; P + C",
            ),
            Story(
                "there are A boxes with B I each but C of the I fell out . how many in all ?",
                "A x B ; P - C",
            ),
        ),
    ),
    Skill(
        "share",
        (
            Story(
                "N has A I and M has B . they share all with C friends . how many for each ?",
                "A + B ; P / C",
            ),
            Story(
                "N has A I but keeps B . C friends share the rest . how many for each ?",
                "A - B ; P / C",
            ),
        ),
    ),
    Skill(
        "double",
        (
            Story("N has A I and M has twice as many . how many I do both have ?", "A x 2 ; A + P"),
            Story(
                "N has A I and M has three times as many . how many I do both have ?",
                "A x 3 ; A + P",
            ),
        ),
    ),
    Skill(
        "spend",
        (
            Story(
                "N has A coins and buys B I for C coins each . how many coins are left ?",
                "B x C ; A - P",
            ),
            Story(
                "N buys A I for B coins each and has C coins left . how many coins before ?",
                "A x B ; P + C",
            ),
        ),
    ),
    Skill(
        "three",
        (
            Story("N has A I and M has B and K has C . how many I in all ?", "A + B ; P + C"),
            Story("N had A I and gave B to M and C to K . how many I are left ?", "A - B ; P - C"),
        ),
    ),
)
