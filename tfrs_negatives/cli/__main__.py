"""`python -m tfrs_negatives.cli`, the same as `tfrs-negatives`."""

import sys

from tfrs_negatives.cli import main

if __name__ == "__main__":
    sys.exit(main())
