"""EASE^R (Steck, WWW 2019), closed form, as this package has it for a teacher."""

from benchmarks.quality.rankers import Scores
from tfrs_negatives import teachers


def fit(train, setting, seed):
    histories = train.histories()
    teacher = teachers.EASE(setting["l2"]).fit(histories, progress=False)
    return Scores(lambda users: teacher.scores(histories.rows(users)))
