"""Which part of a data pack detectors are fitted on and which they are reported on.

Every family of texts lies on one side, whole: a campaign's template, other templates of its source, and whatever else
in a pack was made from the same original. The side is a hash of the family's name, so it is the same everywhere and
does not move when a pack grows. Slot texts of some templates come from sources of either side; only what repeats from
prompt to prompt is kept apart.
"""

import hashlib
from typing import Final, Literal, get_args

Side = Literal["fit", "report"]
SIDES: Final = get_args(Side)

# Sources that hold the same text under several names.
_SAME: Final = {
    "curator-stratos": "skythought",  # one system prompt
    "stanford_alpaca": "self-instruct",
    "instructlab-sdg": "self-instruct",
    "camel": "self-instruct",
    "aider-history": "aider",
    "openai_humaneval": "humaneval",
    "nq-open": "nq_open",
    "webquestions": "web_questions",
    "paws-x": "paws",
    "quora": "paws",
    "tmu_gfm_dataset": "asset",
    "turk": "asset",
    "xquad_r": "xquad",
    "quac_expanded": "quac",
    "coqa_expanded": "coqa",
    "snli": "nli",
    "anli": "nli",
    "esnli": "nli",
    "xnli": "nli",
    "hans": "nli",
    "scitail": "nli",
    "yelp_polarity": "yelp_review_full",
    "amazon_us_reviews": "amazon_reviews_multi",
    "conv_ai_2": "conv_ai",
    "conv_ai_3": "conv_ai",
}
_SALT: Final = b"streamdetect split 1"


def family_of(source: str) -> str:
    """Return the family of a pack's source.

    >>> family_of("t0-paws"), family_of("promptsource/paws/labeled_swap"), family_of("bbh/navigate")
    ('paws', 'paws', 'bbh')
    """
    parts = source.removeprefix("t0-").split("/")
    if parts[0] == "promptsource":
        parts = [part for part in parts[1:] if part != "Zaid"]
    if parts[0] == "langchain":
        parts = ["-".join(parts)]  # each of its prompts is a text of its own
    return _SAME.get(parts[0], parts[0])


def side_of(family: str) -> Side:
    """Return the side of a family."""
    return "fit" if hashlib.blake2b(family.encode(), key=_SALT).digest()[0] & 1 else "report"
