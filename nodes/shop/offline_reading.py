"""What the offline model makes of a customer's text: matters, orders, amounts, language, tone, and what to distrust."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from nodes.shop.offline_lexicon import GOODS, LANGUAGE_WORDS
from nodes.shop.offline_vocabulary import (
    ANGER,
    COMPLAINTS,
    DAMAGE,
    HYPOTHETICAL,
    MONEY,
    NEGATION,
    PEOPLE_FIRST,
    SIGNS,
    SUBJECTS,
    Topic,
)
from policies.content import SIGNS as INJECTION_SIGNS
from policies.content import clean, suspicions

ORDER_ID = re.compile(
    r"\bO[- ]?(\d{4,9})\b"
    r"|\b(?:order|bestellung|commande|pedido)(?:\s*(?:number|no\.?|nummer|nr\.?|n[°º]|numéro|número|#|:))*\s*#?(\d{4,9})\b"
    r"|#(\d{4,9})\b",
    re.IGNORECASE,
)
AMOUNT = re.compile(
    r"(?:€|EUR)\s?(\d+)(?:[.,](\d{2}))?(?!\d)|\b(\d+)(?:[.,](\d{2}))?\s?(?:€|EUR|euros?)", re.IGNORECASE
)
SENTENCE_END = re.compile(
    r"(?<!\bNr\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bNo\.)(?<!\bSt\.)(?<=[.!?])\s+|\n\n+|\n(?=\s*(?:\d[.)]|[-*])\s)"
)
PLANTED = re.compile(r"<!--.*?(-->|\Z)|\[(\w+)\].*?(\[/\2\]|\Z)|<(\w+)>.*?</\4>", re.DOTALL)
"""Blocks no customer writes by hand: comments, and pasted pseudo-markup."""
MACHINE_NAME = re.compile(r"\b[a-z]+_[a-z_]+\b")
"""`issue_refund` and the like: our tools' names, which customers do not know."""
MADE_ON_APPROVAL = "a claim of approval"
URGENCY = tuple(Topic)
NO_ORDERS_NEEDED = (*PEOPLE_FIRST, Topic.QUESTION, Topic.VAGUE)


@dataclass(frozen=True)
class Matter:
    """One thing the customer writes about."""

    topic: Topic
    order_id: str | None = None
    """As the text names it, nearest to the matter; None when it names none."""
    text: str = ""
    """The sentences it stands in, one a line."""
    query: str = ""
    """For a question: English words to search our articles with."""


@dataclass(frozen=True)
class Reading:
    """A text, read."""

    matters: tuple[Matter, ...]
    """In the order to be dealt with: people first, money, parcels, questions."""
    order_ids: tuple[str, ...]
    amounts_minor: tuple[int, ...]
    """Sums of money named, in cents."""
    language: str | None
    """en, de, fr or es; None when the text is too short to tell."""
    angry: bool
    suspicious: tuple[str, ...]
    """Signs that the text tries to give instructions; the parts that do are not in `text`."""
    text: str
    """What is left to go by."""
    taken_back: bool = False
    """Whether a later letter takes back what was asked for, and asks for nothing else."""
    only_thanks: bool = False
    """Whether a later letter thanks us, and asks for nothing."""

    @property
    def topics(self) -> list[Topic]:
        return [m.topic for m in self.matters]

    @property
    def only_claims_approval(self) -> bool:
        return self.suspicious == (MADE_ON_APPROVAL,)


def read(subject_and_body: str) -> Reading:
    """Read a customer's text. Instructions in it are noted and left out."""
    visible = clean(subject_and_body)
    text, planted = _without_instructions(visible)
    suspicious = tuple(dict.fromkeys([*suspicions(subject_and_body), *suspicions(visible), *planted]))
    order_ids = tuple(dict.fromkeys(_order_ids(text)))
    return Reading(
        matters=_arranged(_matters(text, order_ids)),
        order_ids=order_ids,
        amounts_minor=tuple(_amounts(text)),
        language=_language(visible),
        angry=bool(ANGER.search(text)) or _shouts(text),
        suspicious=suspicious,
        text=text,
    )


def words_of_goods(text: str) -> set[str]:
    """The text's words, singular, with the shop's English words for goods named in another language."""
    tokens = re.findall(r"[^\W\d_]{3,}", text.lower())
    words = {_singular(token) for token in tokens}
    # German joins words, and names the thing last: Schreibtischlampe is a lamp, and no table.
    words |= {english for token in tokens for word, english in GOODS.items() if _names(token, word)}
    return words


def sentences(text: str) -> list[str]:
    return [" ".join(part.split()) for part in SENTENCE_END.split(text) if part and part.strip()]


def _names(token: str, word: str) -> bool:
    endings = (word, f"{word}s", f"{word}n", f"{word}e", f"{word}en", f"{word}es")
    return token in endings or (len(word) >= 5 and token.endswith(endings))


def _singular(token: str) -> str:
    if token.endswith(("sses", "xes", "ches", "shes")):
        return token[:-2]
    return token[:-1] if token.endswith("s") and not token.endswith("ss") else token


def _without_instructions(text: str) -> tuple[str, list[str]]:
    """The text without what addresses a machine: each such sentence, and what follows it in its paragraph."""
    signs = ["hidden text"] if PLANTED.search(text) else []
    kept = []
    for paragraph in re.split(r"\n\s*\n", PLANTED.sub("", text)):
        trusted = []
        for sentence in sentences(paragraph):
            if MACHINE_NAME.search(sentence) or any(sign.search(sentence) for _, sign in INJECTION_SIGNS):
                signs += ["a tool named in the text"] if MACHINE_NAME.search(sentence) else []
                break
            trusted.append(sentence)
        # Line breaks matter to addresses, so a paragraph with nothing wrong stays as it was written.
        untouched = len(trusted) == len(sentences(paragraph))
        kept.append(paragraph if untouched else " ".join(trusted))
    return "\n\n".join(part for part in kept if part.strip()), signs


def _order_ids(text: str) -> Iterable[str]:
    return (f"O-{next(digits for digits in found.groups() if digits)}" for found in ORDER_ID.finditer(text))


def _amounts(text: str) -> Iterable[int]:
    for found in AMOUNT.finditer(text):
        whole, cents = (found[1], found[2]) if found[1] else (found[3], found[4])
        yield int(whole) * 100 + int(cents or 0)


def _language(text: str) -> str | None:
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {language: sum(w in small for w in words) for language, small in LANGUAGE_WORDS.items()}
    best, second = sorted(counts, key=lambda language: counts[language], reverse=True)[:2]
    return best if counts[best] >= 2 and counts[best] > counts[second] else None


def _shouts(text: str) -> bool:
    return len(re.findall(r"\b[A-ZÄÖÜÉÈ]{4,}\b", text)) >= 3


def _matters(text: str, order_ids: tuple[str, ...]) -> list[Matter]:
    """Every matter of every sentence; the same matter about the same order is one."""
    found: dict[tuple[Topic, str | None, str], Matter] = {}
    latest = order_ids[0] if len(order_ids) == 1 else None
    for sentence in sentences(text):
        named = list(_order_ids(sentence))
        latest = named[0] if len(set(named)) == 1 else latest
        for topic, query in _topics(sentence):
            order_id = None if topic in PEOPLE_FIRST else latest
            key = (topic, order_id, query)
            before = found.get(key)
            joined = f"{before.text}\n{sentence}" if before else sentence
            found[key] = Matter(topic, order_id, joined, query)
    return list(found.values())


def _topics(sentence: str) -> list[tuple[Topic, str]]:
    signed = [topic for topic in SIGNS if _means(topic, sentence)]
    if HYPOTHETICAL.search(sentence) and sentence.endswith("?") and set(signed) & set(COMPLAINTS):
        return [(Topic.QUESTION, DAMAGE)]
    if Topic.ADDRESS in signed:
        signed = [topic for topic in signed if topic is not Topic.WRONG_ITEM]
    topics = [(topic, "") for topic in signed]
    if not any(topic in MONEY and topic is not Topic.REFUND for topic in signed):
        topics += [
            (Topic.QUESTION, _query(subject.query, subject.with_goods, sentence))
            for subject in SUBJECTS
            if subject.sign.search(sentence)
        ]
    return topics


def _means(topic: Topic, sentence: str) -> bool:
    """Whether the sentence speaks of the topic, and does not wave it away."""
    if topic not in (Topic.GOODWILL, Topic.CANCEL):
        return bool(SIGNS[topic].search(sentence))
    return any(not NEGATION.search(sentence[: found.start()]) for found in SIGNS[topic].finditer(sentence))


def _query(query: str, with_goods: bool, sentence: str) -> str:
    known = {*GOODS.values(), "towel", "linen", "wool", "olive", "ash", "birch", "jute"}
    goods = sorted(words_of_goods(sentence) & known) if with_goods else []
    return " ".join([query, *goods])


def _arranged(found: list[Matter]) -> tuple[Matter, ...]:
    """Without what another matter says better, in the order to be dealt with."""
    matters = _with_order_of_the_rest(found)
    topics = {m.topic for m in matters}
    reasons = topics & {*MONEY, Topic.CANCEL} - {Topic.REFUND}
    if Topic.REFUND in topics and not reasons:
        matters = [replace(m, topic=Topic.NOT_DELIVERED) if m.topic is Topic.TRACK else m for m in matters]
    dropped = {Topic.REFUND} if reasons | (topics & {Topic.TRACK}) else set()
    if topics - {Topic.VAGUE}:
        dropped.add(Topic.VAGUE)
    return tuple(sorted((m for m in matters if m.topic not in dropped), key=lambda m: URGENCY.index(m.topic)))


def _with_order_of_the_rest(found: list[Matter]) -> list[Matter]:
    """A matter without an order is the same as its namesake with one; alone, it takes the only order named later."""
    named = {m.topic for m in found if m.order_id}
    kept = [m for m in found if m.order_id or m.query or m.topic not in named or m.topic in NO_ORDERS_NEEDED]
    later = {m.order_id for m in kept if m.order_id}
    only = next(iter(later)) if len(later) == 1 else None
    return [m if m.order_id or m.topic in PEOPLE_FIRST else replace(m, order_id=only) for m in kept]
