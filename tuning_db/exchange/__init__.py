"""Exchange: a tuning DB's trials in files, to share and to merge."""

from tuning_db.exchange.exporting import export
from tuning_db.exchange.merging import Merged, merge
from tuning_db.exchange.reading import read_trials

__all__ = ["Merged", "export", "merge", "read_trials"]
