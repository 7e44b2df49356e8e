"""Workflows as LangGraph graphs, and the runner that carries an execution through one."""

import casework as casework  # first: LangGraph reads LANGGRAPH_STRICT_MSGPACK once, when it is imported
