"""Notes for the trace of an answer: why it has ended, its id, and its words if they are wanted."""

from contextlib import closing

from core.context import CallContext
from core.events import AnswerStart, Events, Finish, Text
from core.trace_context import AnswerFacts, TraceContext
from dispatch.resilience.retry import StreamFactory
from providers.base import Target


def trace_answers(ask: StreamFactory, trace: TraceContext) -> StreamFactory:
    """A StreamFactory that notes each attempt's answer in the trace, as far as its events tell. Of bytes that pass as
    they came, the provider notes what it has decoded.
    """

    def stream(target: Target, call: CallContext) -> Events:
        facts = trace.answers[call.span_id] = AnswerFacts()
        texts: list[str] | None = None
        if trace.words is not None:
            texts = trace.words.said[call.span_id] = []
        with closing(ask(target, call)) as events:
            for event in events:
                if isinstance(event, Text):
                    if texts is not None:
                        texts.append(event.text)
                elif isinstance(event, Finish):
                    facts.reasons.append((event.choice, event.reason))
                elif isinstance(event, AnswerStart):
                    facts.id, facts.model = event.id, event.model
                yield event

    return stream
