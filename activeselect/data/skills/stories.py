"""Stories: the texts of the built-in problems, and every word they can hold, in a fixed order.

First entries: ``<pad> <eos> <unk> 0 1 2 ... 60 + - . / : ...``
"""

from __future__ import annotations

from activeselect.data.skills.skill import (
    CLOSERS,
    ITEMS,
    NAMES,
    NUMBERS,
    OPENERS,
    Skill,
    Story,
)

# --- Mastered skills
#
# One real record (story and program are the sources of a question and its trace)::
#
#     ben has 18 kites and gets 20 more but then loses 14 . how many kites now ?
#     now 18 + 20 = 38 . here 38 - 14 = 24 . so answer : 24


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


# --- Unseen skills
#
# Of them the base model knows the words (it reads their questions without a trace) and ``simple``
# stories of one or two steps, never the whole. Two stories to learn apart make a skill's accuracy
# rise gradually instead of jumping.
#
# One real record (story and program are the sources of a question and its trace)::
#
#     a train goes 36 miles in 3 hours . how far in 2 hours if it starts 23 miles from home ?
#     so 36 / 3 = 12 . then 12 x 2 = 24 . now 24 + 23 = 47 . thus answer : 47


UNSEEN = (
    Skill(
        "journey",
        (
            Story(
                "a bus/train goes A miles each hour for B hours and C each hour for "
                "D hours . how far in all ?",
                "A x B ; C x D ; P + Q",
            ),
            Story(
                "a bus/train goes A miles in B hours . how far in C hours if it "
                "starts D miles from home ?",
                "A / B ; P x C ; Q + D",
            ),
        ),
        (
            Story("a bus/train goes A miles each hour for B hours . how far ?", "A x B"),
            Story(
                "a bus/train starts A miles from home and goes B more miles . how far from home ?",
                "A + B",
            ),
            Story("a bus/train goes A miles in B hours . how far in each hour ?", "A / B"),
            Story("a bus/train goes A miles in B hours . how far in C hours ?", "A / B ; P x C"),
            Story(
                "a bus/train goes A miles each hour for B hours and then C more . how far in all ?",
                "A x B ; P + C",
            ),
        ),
    ),
    Skill(
        "tank",
        (
            Story(
                "a tank holds A litres . each minute B flow in and C leak out . how "
                "many litres after D minutes ?",
                "B - C ; P x D ; A + Q",
            ),
            Story(
                "a tank holds A litres . each minute B leak out and C flow in . how "
                "many litres after D minutes ?",
                "B - C ; P x D ; A - Q",
            ),
        ),
        (
            Story("a tank holds A litres . B flow in . how many litres ?", "A + B"),
            Story("a tank holds A litres . B leak out . how many litres ?", "A - B"),
            Story("each minute A litres flow in . how many litres after B minutes ?", "A x B"),
            Story(
                "a tank holds A litres . each minute B flow in . how many litres after C minutes ?",
                "B x C ; A + P",
            ),
            Story(
                "a tank holds A litres . each minute B leak out . how many litres "
                "after C minutes ?",
                "B x C ; A - P",
            ),
        ),
    ),
    Skill(
        "ages",
        (
            Story(
                "N is A years old . M is B years older and K is twice as old as M . "
                "how old are M and K in all ?",
                "A + B ; P x 2 ; P + Q",
            ),
            Story(
                "N is A years old . M is half as old and K is B years older than M "
                ". how many years between N and K ?",
                "A / 2 ; P + B ; A - Q",
            ),
        ),
        (
            Story("N is A years old . M is B years older . how old is M ?", "A + B"),
            Story("N is A years old . M is twice as old . how old is M ?", "A x 2"),
            Story("N is A years old . M is half as old . how old is M ?", "A / 2"),
            Story(
                "N is A years old . M is half as old . how many years between N and M ?",
                "A / 2 ; A - P",
            ),
            Story(
                "N is A years old . M is B years older . how old are N and M in all ?",
                "A + B ; A + P",
            ),
        ),
    ),
    Skill(
        "teams",
        (
            Story(
                "A boys and B girls form teams of C . then D teams go home . how many teams stay ?",
                "A + B ; P / C ; Q - D",
            ),
            Story(
                "of A girls B are ill . the rest form teams of C and D teams of "
                "boys come . how many teams play ?",
                "A - B ; P / C ; Q + D",
            ),
        ),
        (
            Story("A girls/boys form teams of B . how many teams ?", "A / B"),
            Story("A boys and B girls come . how many play ?", "A + B"),
            Story("of A girls/boys/teams B go home . how many stay ?", "A - B"),
            Story("A boys and B girls form teams of C . how many teams ?", "A + B ; P / C"),
            Story("of A girls B are ill . then C boys come . how many play ?", "A - B ; P + C"),
        ),
    ),
    Skill(
        "sale",
        (
            Story(
                "a hat costs A coins but today B less . N buys C and pays D coins . "
                "how much change ?",
                "A - B ; P x C ; D - Q",
            ),
            Story(
                "a hat costs A coins and a bag B . N buys C of each and pays D "
                "coins . how much change ?",
                "A + B ; P x C ; D - Q",
                small="AB",
            ),
        ),
        (
            Story("a hat/bag costs A coins but today B less . how much to pay ?", "A - B"),
            Story("a hat costs A coins and a bag B . how much to pay ?", "A + B"),
            Story("a hat/bag costs A coins . N buys B . how much to pay ?", "A x B"),
            Story(
                "a hat/bag costs A coins but today B less . N pays C coins . how much change ?",
                "A - B ; C - P",
            ),
            Story(
                "a hat/bag costs A coins . N buys B and pays C coins . how much change ?",
                "A x B ; C - P",
            ),
        ),
    ),
    Skill(
        "garden",
        (
            Story(
                "a garden has A rows of B trees . half of them die and N plants C "
                "more . how many trees live ?",
                "A x B ; P / 2 ; Q + C",
            ),
            Story(
                "a garden has A trees . B die and N plants C rows of D more . how "
                "many trees live ?",
                "A - B ; C x D ; P + Q",
            ),
        ),
        (
            Story("a garden has A rows of B trees . how many trees ?", "A x B"),
            Story("a garden has A trees . half of them die . how many trees live ?", "A / 2"),
            Story("a garden has A trees . B die . how many trees live ?", "A - B"),
            Story(
                "a garden has A rows of B trees . C die . how many trees live ?", "A x B ; P - C"
            ),
            Story(
                "a garden has A trees . half of them die and N plants B more . how "
                "many trees live ?",
                "A / 2 ; P + B",
            ),
        ),
    ),
    Skill(
        "bags",
        (
            Story(
                "N fills A bags with B I and M fills C bags with D . how many more I has N ?",
                "A x B ; C x D ; P - Q",
            ),
            Story(
                "N fills A bags with B I and M fills C bags with D . how many fewer I has N ?",
                "C x D ; A x B ; P - Q",
            ),
        ),
        (
            Story("N fills A bags with B I . how many I has N ?", "A x B"),
            Story("N has A I and M has B . how many more I has N ?", "A - B"),
            Story("N has A I and M has B . how many fewer I has N ?", "B - A"),
            Story("N fills A bags with B I and M has C . how many more I has N ?", "A x B ; P - C"),
            Story(
                "N fills A bags with B I and M has C . how many fewer I has N ?", "A x B ; C - P"
            ),
        ),
    ),
    Skill(
        "work",
        (
            Story(
                "N paints A walls a day and M paints B . how many of D walls are "
                "left after C days ?",
                "A + B ; P x C ; D - Q",
                small="AB",
            ),
            Story(
                "N paints A walls a day for B days and M paints C . how many of D walls are left ?",
                "A x B ; P + C ; D - Q",
            ),
        ),
        (
            Story("N paints A walls a day for B days . how many walls ?", "A x B"),
            Story("A of B walls are done . how many walls are left ?", "B - A"),
            Story("N paints A walls and M paints B . how many walls ?", "A + B"),
            Story(
                "N paints A walls a day and M paints B . how many walls after C days ?",
                "A + B ; P x C",
            ),
            Story(
                "N paints A walls a day for B days . how many of C walls are left ?",
                "A x B ; C - P",
            ),
        ),
    ),
)


# --- Catalogue of skills
#
# One real record of noise, whose steps nobody can predict::
#
#     a witch sees 49 stars and 11 moons over 22 hills . what is the secret number ?
#     so 49 turns 11 = 30 . then 30 turns 22 = 21 . thus answer : 21


__all__ = ["MASTERED", "NOISE", "PLAIN", "UNSEEN"]

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

PLAIN = {skill.name: skill for skill in (*MASTERED, *UNSEEN, *NOISE)}


PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def vocabulary() -> tuple[str, ...]:
    """All tokens; a token's position is its id.

    Example:
        >>> vocabulary()[:4]
        ('<pad>', '<eos>', '<unk>', '0')
    """
    words = {*"+-x/=.:", "turns", "answer", *NAMES, *ITEMS, *OPENERS, *CLOSERS}
    for skill in PLAIN.values():
        for story in (*skill.stories, *skill.simple):
            words.update(story.words())
    return (PAD, EOS, UNK, *NUMBERS, *sorted(words - set(NUMBERS)))
