"""The offline model's rules for the support workflow: how a careful colleague would route a ticket, and work it.

Pure: what the rules know is in the messages. They hold no ids, and read what a real model reads, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from langchain_core.messages import BaseMessage, HumanMessage

from nodes.offline import Reply, ToolCallRequest
from nodes.shop import offline_billing, offline_general, offline_shipping
from nodes.shop.offline_case import Answer, CannotGoOn, Case, named
from nodes.shop.offline_desk import Desk, NotDone, Turn, request_in
from nodes.shop.offline_letters import WAITING, Letters, read_letters
from nodes.shop.offline_phrases import COLLEAGUE, GREETING, SIGNATURE, SORRY, STOPPED, WELCOME
from nodes.shop.offline_reading import Matter, Reading
from nodes.shop.offline_vocabulary import MONEY, PARCELS, PEOPLE_FIRST, Topic
from tools.shop.tickets import SentReply, Team, TicketState

Handler = Callable[[Case, Matter], Answer | None]

OWNERS = {
    **dict.fromkeys(MONEY, "billing"),
    **dict.fromkeys(PARCELS, "shipping"),
    Topic.QUESTION: "general",
    Topic.VAGUE: "general",
}
HANDLERS: Mapping[str, Mapping[Topic, Handler]] = {
    "billing": {
        **offline_billing.MATTERS,
        **offline_general.MATTERS,
        Topic.CANCEL: offline_shipping.cancel,
    },
    "shipping": {**offline_shipping.MATTERS, **offline_general.MATTERS},
    "general": offline_general.MATTERS,
}
"""What each specialist can do itself."""
TEAMS = {
    Topic.LEGAL: Team.LEGAL,
    Topic.PRESS: Team.PRESS,
    Topic.PRIVACY: Team.PRIVACY,
    Topic.FRAUD: Team.SECURITY,
    Topic.PERSON: Team.CUSTOMER_CARE,
}
LETTER_CHARS, NOTE_CHARS = 4000, 1000
"""What the reply and the note take at most."""
TOO_BARE = frozenset({Topic.REFUND, Topic.GOODWILL, Topic.VAGUE})
"""What a text that also gives orders must say more than, before anything in it is done."""


def support_rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
    """Play the router, or the specialist of that name, for one turn."""
    if role == "router":
        opening = next((m.text for m in messages if isinstance(m, HumanMessage)), "")
        return Reply(calls=[ToolCallRequest("route", _route(read_letters(request_in(opening), Letters.of(messages))))])
    try:
        return Reply(text=_work(Desk.of(role, messages, tools)))
    except Turn as turn:
        return turn.reply


def _route(reading: Reading) -> dict[str, object]:
    specialist, confidence, reason = _choice(reading)
    return {"specialist": specialist, "confidence": confidence, "reason": reason}


def _choice(reading: Reading) -> tuple[str, float, str]:
    for_people = [topic for topic in reading.topics if topic in PEOPLE_FIRST]
    if for_people:
        return "general", 0.95, f"It is about {for_people[0].value}, which a person must take."
    if reading.taken_back or reading.only_thanks:
        return "general", 0.9, "Nothing is asked for any more."
    if reading.suspicious and set(reading.topics) <= TOO_BARE:
        return "general", 0.8, f"It tries to give instructions ({', '.join(reading.suspicious)}), and asks little else."
    if not reading.topics:
        return "general", 0.2, "It does not say what is wanted."
    owners = list(dict.fromkeys(OWNERS[topic] for topic in reading.topics))
    about = ", ".join(dict.fromkeys(topic.value for topic in reading.topics))
    if reading.topics == [Topic.VAGUE]:
        return "general", 0.4, "Something is wrong, but it does not say what."
    return owners[0], 0.9 if len(owners) == 1 else 0.75, f"It is about {about}."


def _work(desk: Desk) -> str:
    """Work the case as far as the conversation goes. Returns the final answer; Turn says what comes before it."""
    case = Case.open(desk)
    _leave_to_people(case)
    mine, left = _shares(case)
    if not mine and not case.asks_nothing:
        _pass_on(case, left, "Nothing done yet.")
    answers = [_farewell(case)] if case.asks_nothing else _answers(case, mine)
    notes = " ".join(answer.note for answer in answers)
    waits = any(answer.waits for answer in answers)
    body = _letter(case, [answer.say for answer in answers], more_follows=bool(left) and not waits)
    if left and not waits:
        _must_happen(case, desk.ask(SentReply, "reply_to_customer", body=body))
        _pass_on(case, left, notes)
    later = f" Still open: {named(left)}." if left else ""
    status = "pending" if waits else "solved"
    closing = {"status": status, "note": f"{notes}{_warning(case)}{later}"[:NOTE_CHARS]}
    desk.ask_together(("reply_to_customer", {"body": body}), ("update_ticket", closing))
    _must_happen(case, desk.ask(SentReply, "reply_to_customer", body=body))
    _must_happen(case, desk.ask(TicketState, "update_ticket", **closing))
    return f"{notes}{later} {WAITING if waits else 'The customer was told.'}"


def _leave_to_people(case: Case) -> None:
    """Escalate what no agent should decide."""
    reading = case.reading
    for topic in reading.topics:
        if topic in PEOPLE_FIRST:
            case.escalate(TEAMS[topic], f"The ticket is about {topic.value}.")
    if reading.suspicious and set(reading.topics) <= TOO_BARE:
        signs = ", ".join(reading.suspicious)
        # An earlier promise may be true, and billing can look it up; everything else in this kind is an attack.
        team = Team.BILLING if reading.only_claims_approval else Team.SECURITY
        case.escalate(team, f"The text tries to steer us ({signs}); nothing of it was followed.")
    if not reading.topics and not case.asks_nothing:
        case.escalate(Team.CUSTOMER_CARE, "It is not clear what the customer wants.")


def _shares(case: Case) -> tuple[list[Matter], list[Matter]]:
    """The matters this specialist deals with, and those it leaves to others; without what others dealt with before."""
    before = {topic for name in case.desk.passed_by for topic in HANDLERS.get(name, {})}
    open_matters = [m for m in case.reading.matters if m.topic not in before]
    own = HANDLERS.get(case.desk.role, {})
    mine = [m for m in open_matters if m.topic in own]
    return mine, [m for m in open_matters if m.topic not in own]


def _answers(case: Case, mine: Sequence[Matter]) -> list[Answer]:
    answers: list[Answer] = []
    for matter in mine:
        try:
            answer = HANDLERS[case.desk.role][matter.topic](case, matter)
        except CannotGoOn as question:
            answer = question.answer
        if answer and answer.say not in [a.say for a in answers]:
            answers.append(answer)
    return answers


def _farewell(case: Case) -> Answer:
    """To a customer who wrote again and wants nothing more."""
    if case.reading.only_thanks:
        return Answer(case.say(WELCOME), "The customer says thanks.")
    done = "; ".join(case.desk.done_before()) or "nothing"
    return Answer(case.say(STOPPED), f"The customer takes the request back. Done before that: {done}.")


def _pass_on(case: Case, left: Sequence[Matter], done: str) -> None:
    """Hand what is left to whose it is."""
    if not left:
        case.escalate(Team.CUSTOMER_CARE, "Nothing is left that an agent can do, yet the case came back.")
    summary = f"Done by {case.desk.role}: {done} Left for you: {named(left)}.{_warning(case)}"
    case.desk.hand_over(OWNERS[left[0].topic], summary)


def _must_happen(case: Case, outcome: SentReply | TicketState | NotDone) -> None:
    if isinstance(outcome, NotDone):
        case.escalate(Team.CUSTOMER_CARE, f"The case could not be closed. {outcome.said}")


def _letter(case: Case, paragraphs: Sequence[str], *, more_follows: bool) -> str:
    greeting = case.say(GREETING, name=case.customer.name)
    sorry = [case.say(SORRY)] if case.reading.angry else []
    more = [case.say(COLLEAGUE)] if more_follows else []
    return "\n\n".join([greeting, *sorry, *paragraphs, *more, case.say(SIGNATURE)])[:LETTER_CHARS]


def _warning(case: Case) -> str:
    if not case.reading.suspicious:
        return ""
    return f" The text also tried to give instructions ({', '.join(case.reading.suspicious)}); they were not followed."
