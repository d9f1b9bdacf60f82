"""The prices of tokens."""

from dataclasses import dataclass

from core.events import Usage

PER = 1_000_000
"""The number of tokens that a price is for."""


@dataclass(frozen=True, slots=True)
class Price:
    """Prices per million tokens, in one currency. Where `cached`, `written` (to a cache) or `reasoning` is None, these
    tokens cost as much as others of the prompt or of the completion. `above` is (tokens, price): a request whose prompt
    has more tokens costs that price, for all of its tokens.
    """

    prompt: float
    completion: float
    cached: float | None = None
    reasoning: float | None = None
    written: float | None = None
    above: "tuple[int, Price] | None" = None

    def cost(self, usage: Usage) -> float:
        """The cost of these tokens."""
        if self.above is not None and usage.prompt > self.above[0]:
            return self.above[1].cost(usage)
        prompt, completion = self.prompt, self.completion
        extra = usage.cached * ((prompt if self.cached is None else self.cached) - prompt)
        extra += usage.written * ((prompt if self.written is None else self.written) - prompt)
        extra += usage.reasoning * ((completion if self.reasoning is None else self.reasoning) - completion)
        return (usage.prompt * prompt + usage.completion * completion + extra) / PER
