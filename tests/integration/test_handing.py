"""Cases that people have, over the API: taken over, owned, solved by hand, handed back with an instruction."""

from __future__ import annotations

from typing import Any

from casework import audit
from casework.outbox import FactType, fact_of
from tests.web import DAMAGED, LEGAL, Web

WHY = {"reason": "I know this customer."}


async def act(web: Web, who: str, execution_id: str, what: str, **body: str) -> Any:
    """What a request answers: its code when it is refused, else the execution."""
    answer = await web.call(who, "POST", f"/executions/{execution_id}/{what}", json=body or None)
    found = answer.json()
    return found if answer.status_code == 200 else (answer.status_code, found["code"])


async def told(web: Web, execution_id: str, type_: str) -> list[dict[str, Any]]:
    events = (await web.get(f"/executions/{execution_id}/events?limit=1000"))["events"]
    return [event["data"] for event in events if event["type"] == type_]


async def unbroken(web: Web) -> list[str]:
    """The acts of the audit log, which must verify."""
    async with web.service.resources.engine.connect() as db:
        found = await audit.verify(db)
        assert found.bad_line is None
        acts = await db.exec_driver_sql("SELECT body::json ->> 'act' FROM casework.audit ORDER BY seq")
        return [row[0] for row in acts]


def test_webhooks_are_told_when_a_case_changes_hands() -> None:
    told_as = {
        "case.taken_over": (FactType.EXECUTION_FINISHED, {"status": "escalated"}),
        "case.solved": (FactType.EXECUTION_FINISHED, {"status": "succeeded"}),
        "case.handed_back": (FactType.EXECUTION_REOPENED, {"status": "queued"}),
    }
    for event, expected in told_as.items():
        fact = fact_of(event, {"by": "ada", "note": "secret"})
        assert fact is not None
        assert (fact.type, fact.data) == expected
    assert fact_of("case.assigned", {"to": "ada"}) is None


async def test_a_person_owns_a_case_and_solves_it_by_hand(web: Web) -> None:
    case = (await web.run(LEGAL))["execution_id"]
    listed = (await web.get("/handed"))["executions"]
    assert [(e["execution_id"], e["owner"]) for e in listed] == [(case, None)]
    assert (await act(web, "ada", case, "assign"))["owner"] == "ada"
    assert (await act(web, "ben", case, "solve", note="Paid by bank.")) == (409, "owned_by_another")
    assert (await act(web, "ben", case, "hand-back", instruction="Go on.")) == (409, "owned_by_another")
    assert (await act(web, "ben", case, "assign"))["owner"] == "ben"
    assert [e["execution_id"] for e in (await web.get("/handed?owned=mine", "ben"))["executions"]] == [case]
    assert (await web.get("/handed?owned=mine", "ada"))["executions"] == []
    assert (await web.get("/handed?owned=nobodys"))["executions"] == []
    solved = await act(web, "ben", case, "solve", note="  Our lawyer settled it. ")
    assert (solved["status"], solved["solved_by"]) == ("succeeded", "ben")
    assert solved["result"]["outcome"] == {
        "status": "succeeded",
        "reason": "",
        "summary": "Our lawyer settled it.",
        "by": "ben",
    }
    assert (await act(web, "ben", case, "solve", note="Again.")) == (409, "not_with_people")
    assert (await act(web, "ben", case, "assign")) == (409, "not_with_people")
    assert (await act(web, "ben", case, "take-over", **WHY)) == (409, "execution_over")
    assert await told(web, case, "case.assigned") == [{"to": "ada", "from": None}, {"to": "ben", "from": "ada"}]
    assert await told(web, case, "case.solved") == [{"by": "ben", "note": "Our lawyer settled it."}]
    by_hand = (await web.get("/executions?outcome=by_a_person"))["executions"]
    assert [e["execution_id"] for e in by_hand] == [case]
    assert (await web.get("/executions?outcome=by_agents"))["executions"] == []
    assert [a for a in await unbroken(web) if a.startswith("case.")] == ["case.assign", "case.assign", "case.solve"]


async def test_a_case_goes_back_with_an_instruction_that_the_agents_read(web: Web) -> None:
    case = (await web.run(LEGAL))["execution_id"]
    handed = await act(web, "ada", case, "hand-back", instruction="Tell them that we answer by letter.")
    assert (handed["status"], handed["owner"], handed["result"]) == ("queued", "ada", None)
    assert (await act(web, "ada", case, "solve", note="Never mind.")) == (409, "not_with_people")
    async with web.worker.running():
        rested = await web.rested(case)
    assert [read["number"] for read in await told(web, case, "message.read")] == [1]
    assert [run["kind"] for run in await told(web, case, "run.started")] == ["start", "message"]
    (message,) = (await web.get(f"/executions/{case}/messages"))["messages"]
    assert (message["kind"], message["author"], message["read"]) == ("instruction", "ada", True)
    assert rested["status"] == "escalated"  # a lawyer is still a lawyer, and it comes back to who had it
    assert [e["execution_id"] for e in (await web.get("/handed?owned=mine"))["executions"]] == [case]
    assert "case.hand_back" in await unbroken(web)


async def test_taking_over_voids_what_was_asked_and_going_on_asks_anew(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    case = approval["execution_id"]
    taken = await act(web, "ben", case, "take-over", **WHY)
    assert (taken["status"], taken["owner"]) == ("escalated", "ben")
    late = await web.decide("ada", approval, "approve")
    assert (late.status_code, late.json()["code"]) == (409, "approval_superseded")
    async with web.worker.running():
        assert (await web.rested(case))["status"] == "escalated"
        await act(web, "ben", case, "hand-back", instruction="Please go on with the refund of O-5005.")
        assert (await web.rested(case))["status"] == "waiting"
    (again,) = (await web.get(f"/approvals?execution_id={case}"))["approvals"]
    assert again["approval_id"] != approval["approval_id"]
    assert again["description"] == approval["description"]
    assert await told(web, case, "effect.done") == []


async def test_an_approved_refund_is_not_paid_once_a_person_has_the_case(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    case = approval["execution_id"]
    await web.decide("ada", approval, "approve")  # no worker runs: it is granted, and not begun
    assert (await act(web, "ben", case, "take-over", **WHY))["status"] == "escalated"
    await act(web, "ben", case, "solve", note="I paid it by hand.")
    await web.call("olga", "POST", f"/executions/{case}/messages", json={"text": "Thank you!"})
    async with web.worker.running():
        await web.rested(case)
    assert await told(web, case, "effect.started") == []
    decided = await web.get(f"/approvals/{approval['approval_id']}")
    assert decided["state"] == "superseded"


async def test_a_case_whose_call_is_in_doubt_is_not_taken_over(web: Web) -> None:
    asked = await web.doubt("drop")
    assert await act(web, "ben", asked["execution_id"], "take-over", **WHY) == (409, "call_under_way")
    assert (await web.get(f"/approvals/{asked['approval_id']}"))["state"] == "pending"


async def test_what_is_broken_is_named_and_changes_nothing(web: Web) -> None:
    case = (await web.run(LEGAL))["execution_id"]
    before = await web.get(f"/executions/{case}")
    for what, field in (("take-over", "reason"), ("solve", "note"), ("hand-back", "instruction")):
        for text in ("", "   \u200b  ", "NUL \x00", "x" * 4001):
            answer = await web.call("ada", "POST", f"/executions/{case}/{what}", json={field: text})
            assert (answer.status_code, answer.json()["field"]) == (422, field), (what, text[:9])
    assert await act(web, "ada", case, "take-over", **WHY) == (422, "input_invalid")
    assert await web.get(f"/executions/{case}") == before
