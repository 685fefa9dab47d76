"""Selection: which tuned config serves a number of rows. Plain logic, no torch and no database.

A config is judged by its time at the bucket nearest below and the bucket nearest above:

- timed at both: the time in between is interpolated, straight on log-log axes;
- timed at one only: the other end is taken at its worst. Fewer rows never take longer, so going
  down the time stays; more rows take at most proportionally longer, so going up it grows with
  them. A config made for few tokens thus loses its claim quickly as rows grow, and one made for
  many is held to what it costs with many.

The candidates are the winners of the two buckets, which were verified on every row, and the
default; the least time is taken. At a tuned bucket that is its winner, and never a config slower
than the default. In between, where times rise with a log-log slope of 0 to 1, a straight line is
off by at most (above / below)^(1/4); so with the default timed at both ends, the choice takes at
most (above / below)^(1/2) of its time, and that only when both lines are off as far as they can
be, in opposite directions.

Taking the nearest bucket alone loses up to the whole difference of two configs halfway, and taking
the next larger one runs configs for thousands of tokens on a handful: neither is done here.

Times of different sources, skews or top_k are never compared: the rows are served from one such
family, the most trusted one with a bucket at most REACH away, else the most trusted one with
buckets on both sides. Beyond that nothing is known, and the default runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from search_spaces.bucket import Bucket, Skew
from tuning_db.records import Source

REACH = 4.0  # the farthest a tuned bucket speaks for others, as a ratio of row counts


@dataclass(frozen=True)
class TunedBucket:
    """A bucket with a winner; ``rows`` is the number of rows it was tuned with.

    ``times_us`` are microseconds by config, all from ``source``, the winner's among them.
    """

    bucket: Bucket
    rows: int
    top_k: int
    source: Source
    winner: str
    times_us: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The config to run and why; ``times_us`` are what the candidates are expected to take.

    ``buckets`` are those that were weighed, none when nothing speaks for another config than the
    default.
    """

    config: str
    reason: str
    buckets: tuple[Bucket, ...] = ()
    source: Source | None = None
    times_us: Mapping[str, float] = field(default_factory=dict)


Family = tuple[TunedBucket, ...]  # ascending in rows, all times comparable


def select(
    tuned: Sequence[TunedBucket],
    rows: int,
    default: str,
    *,
    skew: Skew | None = None,
    top_k: int | None = None,
) -> Choice:
    """The best known config for ``rows`` >= 1 rows of one problem shape on one GPU.

    ``skew`` (default: uniform) and ``top_k`` are preferred where winners of several exist.
    """
    assert rows >= 1
    families = _families(tuned, skew or Skew(), top_k)
    for speaks in (_near, _around):
        for family in families:
            if speaks(family, rows):
                return _weigh(family, rows, default)
    if not families:
        return Choice(default, "nothing is tuned for this shape on this GPU: the default runs")
    nearest = min((b for f in families for b in f), key=lambda b: _distance(b.rows, rows))
    return Choice(
        default,
        f"the nearest tuned bucket {nearest.bucket} is more than {REACH:g}x away: the default runs",
    )


def estimate_us(
    config: str, rows: int, below: TunedBucket | None, above: TunedBucket | None
) -> float | None:
    """Expected microseconds between two buckets, or beyond one; None when never timed there."""
    low = below.times_us.get(config) if below else None
    high = above.times_us.get(config) if above else None
    if low is not None and high is not None and below is not above:
        assert below is not None and above is not None
        share = math.log(rows / below.rows) / math.log(above.rows / below.rows)
        return math.exp((1 - share) * math.log(low) + share * math.log(high))
    if low is not None:
        assert below is not None
        return low * rows / below.rows
    return high


def _families(tuned: Iterable[TunedBucket], skew: Skew, top_k: int | None) -> list[Family]:
    """Buckets whose times compare, the most trusted family first."""
    groups: dict[tuple[Source, Skew, int], dict[int, TunedBucket]] = {}
    for bucket in tuned:
        family = groups.setdefault((bucket.source, bucket.bucket.skew, bucket.top_k), {})
        family[bucket.rows] = bucket

    def rank(key: tuple[Source, Skew, int]) -> tuple[float, ...]:
        source, its_skew, its_top_k = key
        other = top_k is not None and its_top_k != top_k
        distance = abs(its_skew.exponent - skew.exponent)
        return -source.trust, distance, other, -len(groups[key]), its_top_k

    ranked = (groups[key] for key in sorted(groups, key=rank))
    return [tuple(family[rows] for rows in sorted(family)) for family in ranked]


def _near(family: Family, rows: int) -> bool:
    return any(_distance(bucket.rows, rows) <= REACH for bucket in family)


def _around(family: Family, rows: int) -> bool:
    return family[0].rows < rows < family[-1].rows


def _distance(one: int, other: int) -> float:
    return max(one, other) / min(one, other)


def _weigh(family: Family, rows: int, default: str) -> Choice:
    below = next((bucket for bucket in reversed(family) if bucket.rows <= rows), None)
    above = next((bucket for bucket in family if bucket.rows >= rows), None)
    ends = tuple(dict.fromkeys(b.rows for b in (below, above) if b is not None))
    buckets = [bucket for bucket in family if bucket.rows in ends]
    nearest_first = sorted(buckets, key=lambda bucket: _distance(bucket.rows, rows))
    times = {}
    for config in dict.fromkeys([*(bucket.winner for bucket in nearest_first), default]):
        time_us = estimate_us(config, rows, below, above)
        if time_us is not None:
            times[config] = time_us
    config = min(times, key=lambda name: times[name])
    return Choice(
        config,
        _reason(config, rows, buckets, default, times),
        tuple(bucket.bucket for bucket in buckets),
        buckets[0].source,
        times,
    )


def _reason(
    config: str,
    rows: int,
    buckets: Sequence[TunedBucket],
    default: str,
    times: Mapping[str, float],
) -> str:
    names = " and ".join(str(bucket.bucket) for bucket in buckets)
    source = buckets[0].source.value
    if len(buckets) == 1 and buckets[0].rows == rows:
        place = f"at the {source} bucket {names}"
    elif len(buckets) == 1:
        place = f"nothing is tuned beyond the {source} bucket {names}, {REACH:g}x away at most"
    else:
        place = f"between the {source} buckets {names}"
    if config == default:
        return f"{place}: nothing is faster than the default"
    winners = [str(bucket.bucket) for bucket in buckets if bucket.winner == config]
    against = f", the default {times[default]:.1f}" if default in times else ""
    return f"{place}: winner of {' and '.join(winners)}, {times[config]:.1f} us expected{against}"
