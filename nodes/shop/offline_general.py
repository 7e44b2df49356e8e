"""The offline model as general: answers from the articles, and questions back."""

from __future__ import annotations

import re

from nodes.shop.offline_case import Answer, Case
from nodes.shop.offline_phrases import ARTICLE, ASK_ORDER, ASK_PROBLEM, RETURN_OVER, RETURN_UNTIL
from nodes.shop.offline_reading import Matter
from nodes.shop.offline_vocabulary import COMPLAINTS, RETURNS, Topic
from policies.shop.refunds import WINDOW_AFTER_DELIVERY
from tools.shop.knowledge import FoundArticle, FoundArticles
from tools.shop.orders import OrderList
from tools.shop.tickets import Team

ROOT_CHARS = 4
"""How much of a word must be the same: enough for `washing` and `wash`, `delivery` and `deliver`."""


def answer_question(case: Case, matter: Matter) -> Answer:
    """What an article says; about returning a named order, also until when."""
    said = article(case, matter.query)
    note = f"Answered from our articles ({matter.query})."
    if matter.query == RETURNS.query and matter.order_id and not set(COMPLAINTS) & set(case.reading.topics):
        said = "\n\n".join([*_return_deadline(case, matter), said])
    return Answer(said, note)


def ask_what_is_wrong(case: Case, matter: Matter) -> Answer:
    """Too vague to act on: what happened, and to which order, unless there is only one."""
    orders = case.desk.must(OrderList, "list_orders").orders
    say = case.say(ASK_PROBLEM)
    if not matter.order_id and len(orders) > 1:
        shown = "; ".join(f"{o.order_id} ({', '.join(o.items)})" for o in orders)
        say = f"{say}\n\n{case.say(ASK_ORDER, orders=shown)}"
    return Answer(say, "The ticket does not say what is wrong; asked.", waits=True)


MATTERS = {Topic.QUESTION: answer_question, Topic.VAGUE: ask_what_is_wrong}


def article(case: Case, query: str) -> str:
    """The passage that answers, quoted. Escalates when our articles have nothing on it."""
    found = case.desk.must(FoundArticles, "search_knowledge", query=query).articles
    fitting = next((a for a in found if _fits(a, query)), None)
    if fitting is None:
        case.escalate(Team.CUSTOMER_CARE, f"None of our articles answers this ({query}).")
    return case.say(ARTICLE, title=fitting.title, snippet=_quoted(fitting.snippet))


def _fits(found: FoundArticle, query: str) -> bool:
    """Whether at least half of the query is there: the search returns whatever shares any one word with it."""
    roots = {word[:ROOT_CHARS] for word in re.findall(r"[a-z]{4,}", query.lower())}
    words = re.findall(r"[a-z]{4,}", f"{found.title} {found.snippet}".lower())
    present = {word[:ROOT_CHARS] for word in words} & roots
    return 2 * len(present) >= len(roots)


def _quoted(snippet: str) -> str:
    """A passage as a quotation: where the search cut a sentence, that shows."""
    start = "" if snippet[:1].isupper() else "… "
    end = "" if snippet.endswith((".", "!", "?")) else " …"
    return f"{start}{snippet}{end}"


def _return_deadline(case: Case, matter: Matter) -> list[str]:
    """Nothing while the order is not delivered: the time has not begun."""
    order = case.order_of(matter)
    if order.delivered_at is None:
        return []
    last = order.delivered_at + WINDOW_AFTER_DELIVERY
    phrase = RETURN_UNTIL if case.written_at <= last else RETURN_OVER
    return [case.say(phrase, order=order.order_id, date=f"{order.delivered_at:%Y-%m-%d}", last=f"{last:%Y-%m-%d}")]
