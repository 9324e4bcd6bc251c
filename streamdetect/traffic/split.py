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

# Sources that hold the same text under several names, or tasks that are worded alike, by the name of their family.
_MEMBERS: Final = {
    "skythought": ("curator-stratos",),  # one system prompt
    "self-instruct": ("stanford_alpaca", "instructlab-sdg", "camel"),
    "aider": ("aider-history",),
    "humaneval": ("openai_humaneval",),
    "open-questions": ("nq-open", "nq_open", "webquestions", "web_questions", "trivia_qa", "freebase_qa"),
    "paws": ("paws-x", "quora"),
    "reviews": (
        "imdb", "rotten_tomatoes", "yelp_polarity", "yelp_review_full", "amazon_polarity", "amazon_reviews_multi",
        "amazon_us_reviews", "app_reviews", "poem_sentiment",
    ),
    "simplification": ("asset", "turk", "tmu_gfm_dataset"),
    "reading": ("xquad", "xquad_r", "quac", "quac_expanded", "coqa", "coqa_expanded"),
    "inference": ("snli", "anli", "esnli", "xnli", "hans", "scitail"),
    "cosmos_qa": ("quail",),
    "winograd": ("wino_bias", "winograd_wsc"),
    "lambada": ("craffel",),
    "similarity": ("biosses", "stsb_multi_mt"),
    "yahoo_answers": ("mdd", "yahoo_answers_qa", "yahoo_answers_topics"),
    "conversation": ("conv_ai", "conv_ai_2", "conv_ai_3"),
}  # fmt: skip
_SAME: Final = {source: family for family, sources in _MEMBERS.items() for source in sources}
_SALT: Final = b"streamdetect split 100"


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
