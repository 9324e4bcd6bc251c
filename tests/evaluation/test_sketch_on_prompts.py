"""The kernel equals the plain-Python profile and datasketch on public prompts."""

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import datasketch
import numpy as np
import pytest
import sketch_reference as reference

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.minhash import permutations
from streamdetect.kernels.text import SD_MH1, sketch, tokens_of

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STREAMDETECT_TEST_DATA", ROOT.parent / "shared" / "data"))
FILES = ("organic", "templates", "templates_t0", "traps")
PER_FILE = 400

pytestmark = pytest.mark.skipif(
    not (DATA / "organic.jsonl.gz").exists(), reason="no test data: set STREAMDETECT_TEST_DATA to its folder"
)


def prompts_of(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"].encode() for line in islice(lines, 0, None, 29)][:PER_FILE]


@pytest.mark.parametrize("name", FILES)
def test_public_prompts_have_the_same_tokens_and_signatures(name):
    prompts = prompts_of(name)
    buffer, spans = spans_of(prompts)

    sketches = sketch(np.frombuffer(buffer, np.uint8), spans.start, spans.end, *permutations(SD_MH1))

    assert len(prompts) > 300
    for prompt in prompts:
        assert tokens_of(prompt).tolist() == reference.tokens(prompt)
    hashes = [reference.shingles(prompt) for prompt in prompts]
    expected = datasketch.MinHash.bulk(hashes, num_perm=128, seed=1, scheme="affine32", hashfunc=lambda value: value)
    assert np.array_equal(sketches.signatures, np.array([made.hashvalues for made in expected]))


def test_token_hashes_of_public_prompts_hardly_collide():
    words = {word for name in FILES for prompt in prompts_of(name) for word in reference.token_texts(prompt.decode())}

    hashes = {reference.token_hash(word) for word in words}

    # n^2 / 2^33 collisions are expected of a good 32-bit hash: less than one for so many words.
    assert len(words) - len(hashes) <= len(words) ** 2 / 2**33 + 3
