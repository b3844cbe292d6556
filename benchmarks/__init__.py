"""What the package's figures in `docs` were measured with; README.md lists all.

Each script is a module, run from the project's root: `python -m benchmarks.kernel.run`.
That measures this checkout's `tfrs_negatives`, whatever is installed.
"""

import os

# Before TensorFlow is imported. TFRS and a fused Adam need Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
