"""The words of an answer, kept for its trace."""

from contextlib import closing

from core.context import CallContext
from core.events import Events, Text
from core.trace_context import Words
from dispatch.resilience.retry import StreamFactory
from providers.base import Target


def keep_words(ask: StreamFactory, words: Words) -> StreamFactory:
    """A StreamFactory that keeps the text of each attempt under its span's id."""

    def stream(target: Target, call: CallContext) -> Events:
        texts = words.said[call.span_id] = []
        with closing(ask(target, call)) as events:
            for event in events:
                if isinstance(event, Text):
                    texts.append(event.text)
                yield event

    return stream
