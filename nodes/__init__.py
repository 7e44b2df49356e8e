"""The nodes of a workflow's graph: what happens at each step, never where to go next."""

import casework as casework  # first: LangGraph reads LANGGRAPH_STRICT_MSGPACK once, when it is imported
