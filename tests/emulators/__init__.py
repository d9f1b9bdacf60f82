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

from tests.emulators import faults, oddities
from tests.emulators.answers import AZURE, DEEPSEEK, GROQ, OPENROUTER, Call, ScriptedAnswer
from tests.emulators.connection import Connection, Gone, Received
from tests.emulators.fault import FAULTS, Fault, Phase
from tests.emulators.odd_frames import ODD_FRAMES
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.raw import cases
from tests.emulators.server import Server, certificate

__all__ = [
    "AZURE",
    "DEEPSEEK",
    "FAULTS",
    "GROQ",
    "ODD_FRAMES",
    "OPENROUTER",
    "Call",
    "Connection",
    "Fault",
    "Gone",
    "OpenAIUpstream",
    "Phase",
    "Received",
    "ScriptedAnswer",
    "Server",
    "cases",
    "certificate",
    "faults",
    "oddities",
]
