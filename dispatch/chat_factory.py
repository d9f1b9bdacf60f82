"""Starts a chat at a target: without the parameters that its model refuses, and under its guardrail if it has one."""

from dataclasses import dataclass, replace

from core.context import CallContext
from core.events import Events
from core.requests import ChatRequest
from dispatch.resilience.refused_parameters import RefusedParameters
from dispatch.routing.config import Guard
from dispatch.transforms.guardrail import GuardedChat
from providers.base import Target


@dataclass(frozen=True, slots=True)
class ChatFactory:
    """Sends one chat request to any target (a StreamFactory)."""

    request: ChatRequest
    refused: RefusedParameters

    def __call__(self, target: Target, call: CallContext) -> Events:
        """The answer's events. Raises as Provider.chat does."""
        if not target.provider.passes(self.request, target):
            self.request.require_chat()
        return self.refused.chat(self.request, target, call)

    def with_guard(self, guard: Guard) -> GuardedChat:
        """The same under a guardrail. The answer comes as events then, since the guardrail has to read it."""
        request = replace(self.request, passthrough=None)
        return GuardedChat(ChatFactory(request, self.refused), guard, request)
