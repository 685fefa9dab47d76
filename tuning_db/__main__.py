"""Entry of ``python -m tuning_db``."""

import sys

from tuning_db.cli import main

sys.exit(main())
