"""What Larkspur Home tells its customers: policies, care, delivery times."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Text, cast, func, select
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
    # Any of the words will do, and ranking sorts it out: people rarely use all the words of the right article.
    all_words = func.plainto_tsquery("english", args.query)
    any_word = cast(func.replace(cast(all_words, Text), "&", "|"), TSQUERY)
    found = await ctx.transaction.execute(
        select(
            articles.c.article_id,
            articles.c.title,
            func.ts_headline("english", articles.c.body, any_word, HEADLINE).label("snippet"),
        )
        .where(articles.c.search.bool_op("@@")(any_word))
        .order_by(func.ts_rank_cd(articles.c.search, any_word).desc(), articles.c.article_id)
        .limit(FOUND_ARTICLES)
    )
    return FoundArticles(articles=[FoundArticle.model_validate(dict(row)) for row in found.mappings()])
