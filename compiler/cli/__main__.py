"""``python -m flowc.compiler.cli``: the same as ``flowc``."""

import sys

from . import main

sys.exit(main())
