"""How many messages a second one node refuses, by kind, in one process: one table.

Each kind is measured several times, in turns with all the others, because the
machine's speed drifts; the table shows the median and the slowest and fastest.
"""

import argparse
import statistics

from receiving import KINDS, LOT, measure

TARGETS = {"duplicate": 40_000, "bad filter": 15_000, "bad signature": 7_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1400, help="messages of a kind in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all by default")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    kinds = options.kinds or list(KINDS)
    count = max(LOT, options.count // LOT * LOT)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind in kinds:
            seconds[kind].append(measure(kind, count))
    print(f"{'kind':20} {'a second':>10} {'slowest':>10} {'fastest':>10} {'µs each':>8}  target")
    for kind, took in seconds.items():
        median = statistics.median(took)
        target = f"{TARGETS[kind]:,}" if kind in TARGETS else ""
        print(
            f"{kind:20} {1 / median:10,.0f} {1 / max(took):10,.0f} {1 / min(took):10,.0f} "
            f"{median * 1e6:8.1f}  {target}"
        )


if __name__ == "__main__":
    main()
