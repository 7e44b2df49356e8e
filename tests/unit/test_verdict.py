"""Several policies speak about one call: the strictest decides, and every reason of its kind is heard."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casework.actor import Role
from policies.verdict import APPROVERS, Allow, Consent, Deny, NeedsApproval, Verdict, strictest

ADMINS = frozenset({Role.ADMIN})
NOBODY: frozenset[Role] = frozenset()

reasons = st.text(min_size=1, max_size=5)
money = st.dictionaries(st.sampled_from(["EUR", "USD"]), st.integers(0, 9), max_size=2)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    st.builds(Allow, reasons, money),
    st.builds(Deny, reasons),
    st.builds(NeedsApproval, reasons, st.integers(1, 3), st.frozensets(st.sampled_from(Role), max_size=2), money),
)


@pytest.mark.parametrize(
    ("every", "decides"),
    [
        ([], Allow("no rule stands against it")),
        ([Allow("small")], Allow("small")),
        ([Allow("small"), Allow("in time")], Allow("small; in time")),
        ([Allow("small"), NeedsApproval("late")], NeedsApproval("late")),
        ([NeedsApproval("large", 2), NeedsApproval("late")], NeedsApproval("large; late", 2)),
        (
            [NeedsApproval("late"), NeedsApproval("large", 2, ADMINS)],
            NeedsApproval("late; large", 2, APPROVERS | ADMINS),
        ),
        (
            [NeedsApproval("mode", roles=NOBODY), NeedsApproval("law", roles=ADMINS)],
            NeedsApproval("mode; law", 1, ADMINS),
        ),
        ([NeedsApproval("mode", roles=NOBODY)], NeedsApproval("mode")),
        ([Allow("small", {"EUR": 90}), NeedsApproval("mode")], NeedsApproval("mode", money={"EUR": 90})),
        (
            [NeedsApproval("a", 3, money={"EUR": 5, "USD": 9}), NeedsApproval("b", 1, money={"EUR": 7})],
            NeedsApproval("a; b", 3, money={"EUR": 7, "USD": 9}),
        ),
        ([NeedsApproval("large", 2), Deny("not yours")], Deny("not yours")),
        ([Deny("not yours"), Allow("small"), Deny("too late")], Deny("not yours; too late")),
    ],
)
def test_the_strictest_decides_with_all_reasons_of_its_kind(every: list[Verdict], decides: Verdict) -> None:
    assert strictest(every) == decides


@given(st.lists(verdicts, max_size=4))
def test_the_order_of_the_policies_changes_nothing_but_the_order_of_the_reasons(every: list[Verdict]) -> None:
    outcomes = [replace(verdict, reason="") for verdict in map(strictest, permutations(every))]
    assert all(outcome == outcomes[0] for outcome in outcomes)


@given(st.lists(verdicts, max_size=4))
def test_what_satisfies_all_satisfies_each(every: list[Verdict]) -> None:
    together = strictest(every)
    if isinstance(together, NeedsApproval):
        consent = Consent(together.votes, together.roles, together.money)
        assert all(consent.covers(one) for one in every)


@pytest.mark.parametrize(
    "consent",
    [
        Consent(),
        Consent(1, APPROVERS | ADMINS, {"EUR": 500}),
        Consent(2, APPROVERS, {"EUR": 500}),
        Consent(2, APPROVERS | ADMINS, {"EUR": 499}),
        Consent(2, APPROVERS | ADMINS, {"USD": 500}),
    ],
)
def test_too_few_people_or_roles_or_too_little_money_is_not_enough(consent: Consent) -> None:
    needed = NeedsApproval("large", 2, APPROVERS | ADMINS, {"EUR": 500})
    assert not consent.covers(needed)
    assert Consent(2, APPROVERS | ADMINS, {"EUR": 500}).covers(needed)
    assert not consent.covers(Deny("never"))


@given(st.lists(verdicts), verdicts)
def test_one_more_policy_never_makes_a_verdict_milder(every: list[Verdict], more: Verdict) -> None:
    def strictness(verdict: Verdict) -> tuple[int, int]:
        return [Allow, NeedsApproval, Deny].index(type(verdict)), getattr(verdict, "votes", 0)

    assert strictness(strictest([*every, more])) >= max(strictness(strictest(every)), strictness(more))
