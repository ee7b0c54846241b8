"""An agent of LangGraph, with the chat model of `langchain-openai`."""

import report
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool as as_tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

CALLED = []


@as_tool
def weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append({"city": city})
    return "sunny"


def graph(model):
    """Model and tool in turn, until the model calls no tool."""
    made = StateGraph(MessagesState)
    made.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    made.add_node("tools", ToolNode([weather]))
    made.add_edge(START, "model")
    made.add_conditional_edges("model", tools_condition)
    made.add_edge("tools", "model")
    return made.compile()


def asked(text):
    return {"messages": [("user", text)]}


def chat():
    return graph(ChatOpenAI(model="m1")).invoke(asked(report.HELLO))["messages"][-1].content


def stream():
    pieces = graph(ChatOpenAI(model="m1")).stream(asked(report.HELLO), stream_mode="messages")
    return [piece.content for piece, _ in pieces if isinstance(piece, AIMessageChunk) and piece.content]


def tool():
    ended = graph(ChatOpenAI(model="m1").bind_tools([weather])).invoke(asked(report.ASK))
    return CALLED, ended["messages"][-1].content


def hello(patient):
    model = ChatOpenAI(model="m1") if patient else ChatOpenAI(model="m1", max_retries=0)
    graph(model).invoke(asked(report.HELLO))


report.main(chat, stream, tool, hello)
