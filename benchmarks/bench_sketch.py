"""What sketching one prompt costs: the kernel against datasketch on the same prompts, in one run.

Prompts are made of a fixed seed, 590 bytes and about 90
words on average; figures are the best of several passes, in process CPU microseconds per prompt. datasketch is measured
twice: as it is usually fed (joined word 3-grams, its default SHA-1), and with ready 32-bit hashes, which leaves only
MinHash itself. The ratio counts; the microseconds belong to the machine.
"""

import random
import time
from collections.abc import Callable

import numpy as np
from datasketch import MinHash
from measure import Table, arguments, machine, report

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.minhash import band_keys, permutations
from streamdetect.kernels.text import SD_MH1, shingles_of, sketch
from streamdetect.pipeline.accept.sketch import BANDS, ROWS_PER_BAND

PASSES = 5


def prompts(count: int) -> list[str]:
    """Texts of Zipf-like words with some punctuation, numbers and URLs, log-normal in length."""
    draw = random.Random(1)
    lexicon = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.choice((2, 3, 4, 5, 6, 7, 8, 9)))) for _ in range(5000)]
    made = []
    for _ in range(count):
        words = []
        for _ in range(max(5, int(draw.lognormvariate(4.34, 0.57)))):
            word = lexicon[min(int(draw.paretovariate(0.7)), len(lexicon)) - 1]
            kind = draw.random()
            if kind < 0.015:
                word = str(draw.randrange(10_000))
            elif kind < 0.02:
                word = f"https://{word}.example/{draw.randrange(1000)}"
            words.append(word + draw.choices(("", ",", ".", "?\n"), (85, 7, 6, 2))[0])
        made.append(" ".join(words).capitalize())
    return made


def cost_us(work: Callable[[], object], count: int, passes: int = PASSES) -> float:
    """Best CPU time of several passes over ``count`` prompts, per prompt."""
    best = float("inf")
    for _ in range(passes):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / count * 1e6


def word_grams(text: str) -> list[bytes]:
    words = text.lower().split()
    return [" ".join(words[first : first + 3]).encode() for first in range(max(len(words) - 2, 1))]


def update_batches(inputs: list[list], **options) -> list[MinHash]:
    made = []
    for shingles in inputs:
        made.append(MinHash(num_perm=128, seed=1, scheme="affine32", **options))
        made[-1].update_batch(shingles)
    return made


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=2000)
    chosen = parser.parse_args()
    count, before = chosen.prompts, machine()
    texts = prompts(count)
    encoded = [text.encode() for text in texts]
    buffer, spans = spans_of(encoded)
    data = np.frombuffer(buffer, np.uint8)
    a, b = permutations(SD_MH1)
    few = slice(0, max(count // 10, 1))  # datasketch is slow: a tenth will do
    grams = [word_grams(text) for text in texts[few]]
    hashes = [shingles_of(text).tolist() for text in encoded[few]]
    identity = {"hashfunc": lambda value: value}

    sketches = sketch(data, spans.start, spans.end, a, b)
    band_keys(sketches.signatures, BANDS, ROWS_PER_BAND)
    same = [made.hashvalues for made in MinHash.bulk(hashes, num_perm=128, seed=1, scheme="affine32", **identity)]
    if not np.array_equal(sketches.signatures[few], np.array(same)):
        raise SystemExit("the kernel and datasketch disagree: nothing was measured")

    in_batches = [(spans.start[row : row + 500], spans.end[row : row + 500]) for row in range(0, count, 500)]
    singles = [(spans.start[row : row + 1], spans.end[row : row + 1]) for row in range(count)]
    rows = {
        "kernel, bytes to signature, batch 500": cost_us(
            lambda: [sketch(data, start, end, a, b) for start, end in in_batches], count
        ),
        "kernel, without permutations": cost_us(lambda: sketch(data, spans.start, spans.end, a[:0], b[:0]), count),
        "kernel, batch 1": cost_us(lambda: [sketch(data, start, end, a, b) for start, end in singles], count),
        f"band keys {BANDS} x {ROWS_PER_BAND}": cost_us(
            lambda: band_keys(sketches.signatures, BANDS, ROWS_PER_BAND), count
        ),
        "lower, split, join 3-grams in Python": cost_us(lambda: [word_grams(text) for text in texts[few]], len(grams)),
        "datasketch update_batch, SHA-1 of 3-grams": cost_us(lambda: update_batches(grams), len(grams)),
        "datasketch update_batch, ready hashes": cost_us(lambda: update_batches(hashes, **identity), len(grams)),
        "datasketch bulk, SHA-1 of 3-grams": cost_us(
            lambda: MinHash.bulk(grams, num_perm=128, seed=1, scheme="affine32"), len(grams)
        ),
        "datasketch bulk, ready hashes": cost_us(
            lambda: MinHash.bulk(hashes, num_perm=128, seed=1, scheme="affine32", **identity), len(grams)
        ),
    }
    base = next(iter(rows.values()))
    mean_bytes = len(buffer) / count
    note = f"{count:,} prompts of {mean_bytes:.0f} bytes and {sketches.shingles.mean():.0f} shingles on average."
    found = {
        "machine": before,
        "prompts": count,
        "us_per_prompt": {name: round(cost, 2) for name, cost in rows.items()},
    }
    shown = [(name, cost, cost / base) for name, cost in rows.items()]
    report(
        "sketch", __doc__, found, [Table(("way", "us per prompt", "times the first"), shown, note)], save=chosen.save
    )


if __name__ == "__main__":
    main()
