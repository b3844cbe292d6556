"""The workers' side of `run`: cases are measured when asked for, and answered."""

import json
import sys

from benchmarks.common import worker
from benchmarks.gpu.cases import Case

# What XLA and PyTorch say when a device has no more memory.
_NO_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory")


def answer_cases(measure):
    """Answers each line that is read, until there is none.

    Args:
      measure: Function of a `Case` and keywords, as asked, to columns of a row.
    """
    worker.keep_output_clean()
    worker.say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        case = Case.from_json(asked.pop("case"))
        try:
            worker.say(status="ok", **measure(case, **asked))
        except ImportError as error:
            worker.say(status="not installed", why=str(error))
        except Exception as error:  # Libraries raise what they like.
            text = f"{type(error).__name__}: {error}"
            if any(words in text for words in _NO_MEMORY):
                worker.say(status="out of memory", why=text[:300])
            else:
                worker.say(status="failed", why=text[:2000])
