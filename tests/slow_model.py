"""A model that thinks for long; CASEWORK_MODEL=tests.slow_model:Thinker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from nodes.offline import OfflineModel

THINKING = "the model is thinking"
THINKS_S = 40.0


class Thinker(OfflineModel):
    """Says on stderr that it was asked."""

    role: str = "thinker"

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        sys.stderr.write(f"{THINKING}\n")
        sys.stderr.flush()
        await asyncio.sleep(THINKS_S)
        async for chunk in super()._astream(messages, stop):
            yield chunk
