"""A graph that knows nothing of Casework: what our runner is measured with, and proves that it runs anyone's graph.

    START → router → billing or orders → [approval] → tools → billing or orders → finish → END

Only langgraph and langchain-core; no I/O, no waiting. A plain run takes five supersteps and appends four messages;
with the approval it takes six, and stops after two.
"""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

QUESTION = "Run this tool?"
SNAPSHOT_EVERY = 100
"""Updates of the delta graph's messages between full snapshots."""
INPUT: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": "Hello, my parcel arrived damaged last week and I would like a refund for order 1042 please. "
            "The box was open and one item was missing.",
        }
    ]
}
ANSWER = (
    "I looked at order {order}. It was shipped on 2025-03-04 with carrier DPD and delivered two days later. "
    "The refund of 49.90 EUR was booked to the card that paid for it; it shows on the statement within three to five "
    "working days. Is there anything else that I can do for you?"
)
TOOL_RESULT = (
    '{"order": "%s", "status": "delivered", "carrier": "DPD", "items": [{"sku": "A-100", "qty": 2, "price": 12.45}, '
    '{"sku": "B-777", "qty": 1, "price": 25.0}], "total": 49.9, "currency": "EUR", "refundable": true, '
    '"history": ["created", "paid", "packed", "shipped", "delivered"]}'
)


class FixedModel(BaseChatModel):
    """Answers at once, from its role and the last message alone."""

    role: str

    @property
    def _llm_type(self) -> str:
        return "fixed"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages[-1]))])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _answer(self, last: BaseMessage) -> AIMessage:
        if self.role == "router":
            return AIMessage("billing" if "refund" in last.text.lower() else "orders")
        if isinstance(last, ToolMessage):
            return AIMessage(ANSWER.format(order=last.tool_call_id.removeprefix("call_")))
        order = "".join(c for c in last.text if c.isdigit()) or "0"
        return AIMessage("", tool_calls=[{"name": "lookup", "args": {"order": order}, "id": f"call_{order}"}])


router_model = FixedModel(role="router")
specialist_model = FixedModel(role="specialist")


class PlainState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    specialist: str
    tool_calls_made: int
    approved: bool
    case: dict[str, str]
    answer: str


class DeltaState(TypedDict, total=False):
    """As PlainState, but a checkpoint holds only what was added to `messages`."""

    messages: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=SNAPSHOT_EVERY)]
    specialist: str
    tool_calls_made: int
    approved: bool
    case: dict[str, str]
    answer: str


# Nodes take `Any`: an annotated state would become a schema of its own, and clash with the other builder's channels.


async def router(state: Any) -> dict[str, Any]:
    choice = await router_model.ainvoke([state["messages"][-1]])
    return {"specialist": choice.text, "case": {"opened_by": "router"}}


async def specialist(state: Any) -> dict[str, Any]:
    return {"messages": [await specialist_model.ainvoke(state["messages"])]}


async def approval(state: Any) -> dict[str, Any]:
    call = _last_call(state)
    answer = interrupt({"question": QUESTION, "tool": call["name"], "args": call["args"]})
    return {"approved": bool(answer)}


async def tools(state: Any) -> dict[str, Any]:
    call = _last_call(state)
    return {
        "messages": [ToolMessage(TOOL_RESULT % call["args"]["order"], tool_call_id=call["id"])],
        "tool_calls_made": state.get("tool_calls_made", 0) + 1,
    }


async def finish(state: Any) -> dict[str, Any]:
    closed = {**state.get("case", {}), "closed_by": state["specialist"]}
    return {"answer": state["messages"][-1].text, "case": closed}


async def to_specialist(state: Any) -> str:
    return str(state["specialist"])


async def after_specialist(state: Any) -> str:
    last = state["messages"][-1]
    return "act" if isinstance(last, AIMessage) and last.tool_calls else "finish"


def _last_call(state: Any) -> Any:
    return state["messages"][-1].tool_calls[0]


def _build(schema: type[Any], *, ask: bool = False) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(schema)
    for name, node in {"router": router, "billing": specialist, "orders": specialist}.items():
        graph.add_node(name, node)
    graph.add_node("tools", tools)
    graph.add_node("finish", finish)
    if ask:
        graph.add_node("approval", approval)
        graph.add_edge("approval", "tools")
    graph.add_edge(START, "router")
    graph.add_conditional_edges("router", to_specialist, ["billing", "orders"])
    for name in ("billing", "orders"):
        graph.add_conditional_edges(name, after_specialist, {"act": "approval" if ask else "tools", "finish": "finish"})
    graph.add_conditional_edges("tools", to_specialist, ["billing", "orders"])
    graph.add_edge("finish", END)
    return graph


plain_builder = _build(PlainState)
approval_builder = _build(PlainState, ask=True)
delta_builder = _build(DeltaState)
