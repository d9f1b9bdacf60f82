"""How a chat is asked of a target: by what its model is known to refuse, and under a guardrail where it has one."""

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
    """How a target is asked a chat."""

    request: ChatRequest
    refused: RefusedParameters

    def __call__(self, target: Target, call: CallContext) -> Events:
        """The answer's events. Raises as Provider.chat does."""
        if not target.provider.passes(self.request, target):
            self.request.require_chat()
        return self.refused.chat(self.request, target, call)

    def guarded(self, guard: Guard) -> GuardedChat:
        """The same under a guardrail, which must see events: no bytes pass."""
        request = replace(self.request, passthrough=None)
        return GuardedChat(ChatFactory(request, self.refused), guard, request)
