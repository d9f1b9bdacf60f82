"""Emulated vendors for the tests: real servers on loopback, strict about what they are sent, scripted to the byte.

    with OpenAIUpstream() as upstream:
        upstream.enqueue(Answer(texts=["Hel", "lo"], fault=faults.cut))
        ...                                            # upstream.base_url, upstream.key
        upstream.wait_received().json

FAULTS is the table of all that can go wrong (faults.py) and of what is odd but harmless (oddities.py);
ODD_FRAMES of what is so in SSE and JSON alone (odd_frames.py):

    @cases(FAULTS)
    def test_it(upstream, fault, stream):
        upstream.always(Answer(fault=fault))
"""

from tests.upstreams import faults, oddities
from tests.upstreams.answers import AZURE, DEEPSEEK, GROQ, OPENROUTER, Call, ScriptedAnswer
from tests.upstreams.connection import Connection, Gone, Received
from tests.upstreams.fault import FAULTS, Fault, Phase
from tests.upstreams.odd_frames import ODD_FRAMES
from tests.upstreams.openai import OpenAIUpstream
from tests.upstreams.raw import cases
from tests.upstreams.server import Server, certificate

__all__ = [
    "AZURE",
    "DEEPSEEK",
    "FAULTS",
    "GROQ",
    "ODD_FRAMES",
    "OPENROUTER",
    "ScriptedAnswer",
    "Call",
    "Connection",
    "Fault",
    "Gone",
    "OpenAIUpstream",
    "Phase",
    "Received",
    "Server",
    "cases",
    "certificate",
    "faults",
    "oddities",
]
