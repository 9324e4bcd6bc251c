"""What shared keys tell their members equals plain Python, whether a key waited alone, counted alone or in a crowd."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import cut, links_from
from pipeline_streams import rows

from streamdetect.kernels.members import TICK_MS, TRUSTED, UNKNOWN, YOUNG
from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.associations.absorb import FAMILY_OF_TYPE, Thresholds, absorb
from streamdetect.pipeline.associations.state import AssociationsState

DAY_TICKS = 144
PER_TRUSTED = 2
MOST = 3


class Reference:
    """One key: who used it last when, in order of first use, and whether it is suspect."""

    def __init__(self):
        self.newest, self.members, self.suspect = 0, {}, False

    def counts(self):
        now = self.newest // TICK_MS // 24
        found = [kind for tick, kind in self.members.values() if tick // 24 > now - 6]
        return [found.count(kind) for kind in (UNKNOWN, YOUNG, TRUSTED)]

    def take(self, at, account, member, kind, suspect_young):
        """Whom the row sends evidence to; ``None`` if it is late."""
        tick = at // TICK_MS
        if self.newest and tick // 24 <= self.newest // TICK_MS // 24 - 6:
            return None
        self.newest = max(self.newest, at)
        trusted_before = self.counts()[TRUSTED]
        self.members[member] = max(self.members.get(member, (0, 0)), (tick, kind))
        unknown, young, trusted = self.counts()
        cleared = young < PER_TRUSTED * trusted
        if self.suspect:
            all_hear = cleared or trusted > trusted_before
            self.suspect = not cleared and 2 * young >= suspect_young
        else:
            all_hear = self.suspect = young >= suspect_young and not cleared
        told = []
        if all_hear:
            oldest = self.newest // TICK_MS - DAY_TICKS
            told = [m for m, (t, k) in reversed(self.members.items()) if k != TRUSTED and t > oldest][:MOST]
        elif self.suspect and kind != TRUSTED:
            told = [account]
        return [(one, self.newest, young, trusted, young + trusted + unknown) for one in told]


@settings(deadline=None, max_examples=150)
@given(stream=rows, thresholds=st.lists(st.integers(1, 4), min_size=6, max_size=6), places=st.lists(st.integers(0, 40)))
def test_evidence_is_what_plain_python_says(stream, thresholds, places):
    # One young account alone never makes a content key suspect.
    thresholds = [*thresholds[:4], *(max(2, one) for one in thresholds[4:])]
    state, found = AssociationsState(), []
    for piece in cut(stream, places):
        absorbed = absorb(state, links_from(piece), Thresholds(np.array(thresholds, np.int64), PER_TRUSTED, MOST))
        fields = absorbed.findings[["account", "at", "young", "trusted", "members"]].tolist()
        found += [(absorbed.late, fields)]

    keys, expected = {}, []
    for piece in cut(stream, places):
        late, told = 0, []
        for at, account, member, _, kind, key_type, key, _ in piece:
            family = FAMILY_OF_TYPE[KeyType(key_type)]
            answer = keys.setdefault((key_type, key), Reference()).take(at, account, member, kind, thresholds[family])
            late += answer is None
            told += answer or []
        expected.append((late, told))
    assert found == expected
