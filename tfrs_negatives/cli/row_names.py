"""The rows of the comparison that `tfrs-negatives train` prints."""

POPULARITY = "popularity"
NEIGHBOURS = "item neighbours"
EASE = "EASE^R"
PLAIN = "TFRS"
CORRECTED = "TFRS, corrected"
OURS = "ours"

#: What is fitted without gradients, and what is trained, in the order of the table.
BASELINES = (POPULARITY, NEIGHBOURS, EASE)
MODELS = (PLAIN, CORRECTED, OURS)
#: What ours may be compared with.
OTHERS = (*BASELINES, PLAIN, CORRECTED)
