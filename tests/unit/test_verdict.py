"""Several policies speak about one call: the strictest decides, and every reason of its kind is heard."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casework.actor import Role
from policies.verdict import Allow, Deny, NeedsApproval, Verdict, strictest

reasons = st.text(min_size=1, max_size=5)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    st.builds(Allow, reasons), st.builds(Deny, reasons), st.builds(NeedsApproval, reasons, st.integers(1, 3))
)


@pytest.mark.parametrize(
    ("every", "decides"),
    [
        ([], Allow("no rule stands against it")),
        ([Allow("small")], Allow("small")),
        ([Allow("small"), Allow("in time")], Allow("small; in time")),
        ([Allow("small"), NeedsApproval("late")], NeedsApproval("late")),
        ([NeedsApproval("large", 2), NeedsApproval("late")], NeedsApproval("large; late", 2)),
        ([NeedsApproval("late"), NeedsApproval("large", 2, Role.ADMIN)], NeedsApproval("late; large", 2, Role.ADMIN)),
        ([NeedsApproval("large", 2), Deny("not yours")], Deny("not yours")),
        ([Deny("not yours"), Allow("small"), Deny("too late")], Deny("not yours; too late")),
    ],
)
def test_the_strictest_decides_with_all_reasons_of_its_kind(every: list[Verdict], decides: Verdict) -> None:
    assert strictest(every) == decides


@given(st.lists(verdicts, max_size=4))
def test_the_order_of_the_policies_changes_neither_the_kind_nor_the_votes(every: list[Verdict]) -> None:
    outcomes = {(type(v), getattr(v, "votes", 0)) for v in map(strictest, permutations(every))}
    assert len(outcomes) == 1


@given(st.lists(verdicts), verdicts)
def test_one_more_policy_never_makes_a_verdict_milder(every: list[Verdict], more: Verdict) -> None:
    def strictness(verdict: Verdict) -> tuple[int, int]:
        return [Allow, NeedsApproval, Deny].index(type(verdict)), getattr(verdict, "votes", 0)

    assert strictness(strictest([*every, more])) >= max(strictness(strictest(every)), strictness(more))
