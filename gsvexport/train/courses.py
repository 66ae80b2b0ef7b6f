"""The courses of the GPTs' trainings, and how many steps each takes."""

from __future__ import annotations

from gsvexport.train.loop import Schedule
from gsvexport.train.t2s import Course

# The small voice, 25 codes a second.
LEARN_STEPS = Schedule(5500, save=250, report=100, evaluate=500)
LEARN = Course(
    "gpt", 1.2e-3, warm=150, alone=0.3, after_any=0.35, wrong=0.06, positions=1600,
    lengths=((0, 45, 0.0), (45, 90, 0.1), (90, 330, 0.3)), early=0.08,
)  # fmt: skip
POLISH_STEPS = Schedule(600, save=100, report=100, evaluate=300)
POLISH = Course(
    "polish", 4e-4, warm=150, alone=0.12, after_any=0.18, wrong=0.1, positions=1600,
    lengths=((40, 90, 0.1), (90, 330, 0.3)),
)  # fmt: skip
# From the GPT that was shipped, which knew texts of up to 13 words.
AGAIN_SMALL_STEPS = Schedule(4000, save=200, report=50, evaluate=500)
AGAIN_SMALL = Course(
    "again", 8e-4, warm=100, alone=0.2, after_any=0.2, wrong=0.1, positions=2000,
    lengths=((0, 45, 0.0), (45, 110, 0.2), (110, 220, 0.5), (220, 420, 0.7)), seed=33,
)  # fmt: skip

# The real voice, 43 codes a second. Each goes on from the average of the one before.
REAL_LENGTHS = ((0, 45, 0.0), (45, 110, 0.1), (110, 230, 0.25), (230, 560, 0.35))
REAL: tuple[tuple[Course, Schedule], ...] = (
    (
        Course("gpt", 1.2e-3, warm=150, alone=0.4, after_any=0.25, wrong=0.06, positions=2400,
               lengths=REAL_LENGTHS, early=0.05),
        Schedule(8000, save=200, report=50, evaluate=500),
    ),
    (
        Course("longer", 8e-4, warm=100, alone=0.2, after_any=0.2, wrong=0.1, positions=2400,
               lengths=REAL_LENGTHS, seed=31),
        Schedule(6000, save=200, report=50, evaluate=500),
    ),
)  # fmt: skip
# From the GPT that was shipped.
AGAIN: tuple[tuple[Course, Schedule], ...] = (
    (
        Course("again", 8e-4, warm=100, alone=0.2, after_any=0.2, wrong=0.1, positions=2400,
               lengths=REAL_LENGTHS, seed=32),
        Schedule(4000, save=200, report=50, evaluate=500),
    ),
)  # fmt: skip
