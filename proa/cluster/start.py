"""`python -m proa.cluster.start DIRECTORY` runs the control plane of the cluster in DIRECTORY.

The collector rests until that serves: what is loaded by then lives for ever, and looking through it again and again
costs a tenth of the start.
"""

from __future__ import annotations

import gc
import sys

if __name__ == "__main__":
    gc.disable()
    from proa.cluster.server import main

    sys.exit(main(sys.argv[1:]))
