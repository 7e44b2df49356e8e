"""What Larkspur Home tells its customers: policies, care, delivery times."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Text, any_, cast, func, select
from sqlalchemy.dialects.postgresql import TSQUERY

from tools.shop.tables import articles
from tools.spec import Effect, ToolContext, tool

FOUND_ARTICLES = 3
"""How many articles a search returns at most."""
HEADLINE = 'StartSel="", StopSel="", MaxFragments=2, MaxWords=60, MinWords=25, FragmentDelimiter=" … "'
"""ts_headline's options: plain text, at most two passages."""


class SearchKnowledgeArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Annotated[
        str,
        Field(
            min_length=2,
            max_length=200,
            description="A few English words; translate them if the ticket is in another language. Not an order id.",
            examples=["return unused item after 30 days"],
        ),
    ]


class FoundArticle(BaseModel):
    article_id: str
    title: str
    snippet: str
    """The passages that fit best."""


class FoundArticles(BaseModel):
    articles: list[FoundArticle]
    """Best first; empty when nothing fits."""


@tool(effect=Effect.READ, permission="knowledge:read")
async def search_knowledge(args: SearchKnowledgeArgs, ctx: ToolContext) -> FoundArticles:
    """Search the shop's own articles: returns, warranty, delivery, payment, care, membership, privacy.

    Returns up to three, best first, with the fitting passages; an empty list means we have nothing on it. Tell
    customers only what an article says, and name no rule that none of them states. It knows no orders and no customers.
    """
    # Any of the words will do, since people rarely use all the words of the right article; the article with most of
    # them comes first, because rank alone prefers one common word said often to one rare word said once.
    all_words = func.plainto_tsquery("english", args.query)
    any_word = cast(func.replace(cast(all_words, Text), "&", "|"), TSQUERY)
    word = func.unnest(func.tsvector_to_array(func.to_tsvector("english", args.query))).column_valued("word")
    words_found = select(func.count()).where(word == any_(func.tsvector_to_array(articles.c.search))).scalar_subquery()
    found = await ctx.transaction.execute(
        select(
            articles.c.article_id,
            articles.c.title,
            func.ts_headline("english", articles.c.body, any_word, HEADLINE).label("snippet"),
        )
        .where(articles.c.search.bool_op("@@")(any_word))
        .order_by(words_found.desc(), func.ts_rank_cd(articles.c.search, any_word).desc(), articles.c.article_id)
        .limit(FOUND_ARTICLES)
    )
    return FoundArticles(articles=[FoundArticle.model_validate(dict(row)) for row in found.mappings()])
