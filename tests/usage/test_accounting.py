"""What a request took and cost: as counted by the upstreams, else estimated and marked so, and never 0 for unknown."""

import pytest

from core.attempts import Attempt
from core.events import Usage
from core.prices import Price
from usage.accounting import AnswerLengths, bill, total
from usage.prices import price_of

PRICE = Price(prompt=2.0, completion=8.0)
TOLD = Usage(100, 50)


def attempt(outcome: str = "answered", first_event: float | None = 0.4, **more: object) -> Attempt:
    return Attempt("one/m", "one", 0.0, first_event, 1.0, outcome, **{"price": PRICE, **more})  # type: ignore[arg-type]


def test_cached_written_and_reasoning_tokens_have_their_own_price() -> None:
    price = Price(prompt=1.0, completion=10.0, cached=0.1, reasoning=20.0, written=1.25)
    usage = Usage(1000, 100, cached=400, reasoning=30, written=200)
    assert price.cost(usage) == pytest.approx((400 * 1 + 400 * 0.1 + 200 * 1.25 + 70 * 10 + 30 * 20) / 1e6)


def test_a_long_prompt_has_a_price_of_its_own() -> None:
    price = Price(1.0, 10.0, cached=0.1, above=(1000, Price(2.0, 15.0, cached=0.2)))
    assert price.cost(Usage(1000, 100, cached=400)) == pytest.approx((600 * 1 + 400 * 0.1 + 100 * 10) / 1e6)
    assert price.cost(Usage(1001, 100, cached=400)) == pytest.approx((601 * 2 + 400 * 0.2 + 100 * 15) / 1e6)


def test_without_a_price_of_their_own_they_cost_as_others_do() -> None:
    assert PRICE.cost(Usage(1000, 100, cached=400, reasoning=30, written=200)) == PRICE.cost(Usage(1000, 100))


def test_an_answer_costs_what_the_upstream_has_counted() -> None:
    answered = attempt()
    billed = bill([answered], TOLD, generated=9, prompt=9, duration=1.0)
    assert (billed.usage, billed.cost, billed.unpriced) == (TOLD, PRICE.cost(TOLD), False)
    assert (answered.usage, answered.cost) == (TOLD, billed.cost)


def test_an_unknown_price_is_an_unknown_cost() -> None:
    billed = bill([attempt(price=None)], TOLD, generated=9, prompt=9, duration=1.0)
    assert (billed.usage, billed.cost, billed.unpriced) == (TOLD, None, True)


def test_a_free_answer_costs_nothing_and_is_no_unknown_cost() -> None:
    billed = bill([attempt(price=Price(0, 0))], TOLD, generated=9, prompt=9, duration=1.0)
    assert (billed.cost, billed.unpriced) == (0.0, False)


@pytest.mark.parametrize("outcome", ["answered", "cancelled", "failed"])
def test_what_nobody_has_counted_is_estimated(outcome: str) -> None:
    billed = bill([attempt(outcome, unheard=40)], None, generated=30, prompt=25, duration=1.0)
    assert billed.usage == Usage(25, 40, estimated=True)
    assert billed.cost == PRICE.cost(Usage(25, 40))


@pytest.mark.parametrize("outcome", ["lost", "late", "cancelled", "running"])
def test_an_attempt_that_was_cut_off_costs_too(outcome: str) -> None:
    loser, winner = attempt(outcome, first_event=None, unheard=80), attempt(why="hedge")
    billed = bill([loser, winner], TOLD, generated=50, prompt=25, duration=1.0)
    assert loser.usage == Usage(25, 20, estimated=True)
    assert loser.outcome != "running"
    assert winner.usage == TOLD
    assert billed.cost == pytest.approx(PRICE.cost(Usage(25, 20)) + PRICE.cost(TOLD))
    assert total([loser, winner]) == Usage(125, 70, estimated=True)
    assert billed.usage == TOLD


def test_an_attempt_that_was_refused_costs_nothing() -> None:
    refused = attempt("failed", first_event=None)
    billed = bill([refused, attempt()], TOLD, generated=50, prompt=25, duration=1.0)
    assert refused.cost is None
    assert billed.cost == PRICE.cost(TOLD)
    assert not billed.unpriced


def test_a_known_part_of_a_cost_is_kept() -> None:
    lost = attempt("lost", first_event=None, price=None)
    billed = bill([lost, attempt()], TOLD, generated=50, prompt=25, duration=1.0)
    assert (billed.cost, billed.unpriced) == (PRICE.cost(TOLD), True)


def test_pictures_are_not_estimated_in_tokens() -> None:
    billed = bill([attempt()], None, generated=0, prompt=None, duration=1.0)
    assert (billed.usage, billed.cost, billed.unpriced) == (None, None, True)


def test_a_hang_up_saves_what_answers_usually_have_besides() -> None:
    lengths = AnswerLengths()
    assert lengths.left("one/m", 10) is None
    lengths.note("one/m", 100)
    assert lengths.left("one/m", 10) == 90
    assert lengths.left("one/m", 1000) == 0
    for _ in range(100):
        lengths.note("one/m", 200)
    assert lengths.left("one/m", 0) == pytest.approx(200, abs=5)


def test_the_table_has_the_vendors_models_and_no_others() -> None:
    assert price_of("openai", "gpt-4o-mini") == Price(0.15, 0.6, cached=0.075)
    assert price_of("anthropic", "claude-haiku-4-5") == Price(1, 5, cached=0.1, written=1.25)
    gemini = price_of("gemini", "gemini-2.5-pro")
    assert gemini == Price(1.25, 10, cached=0.125, above=(200_000, Price(2.5, 15, cached=0.25)))
    assert price_of("oci", "meta.llama-3.3-70b-instruct") is not None
    bedrock = price_of("bedrock-models", "amazon.nova-lite-v1:0")
    assert bedrock is not None
    assert price_of("bedrock-models", "sa.amazon.nova-lite-v1:0") == bedrock
    assert price_of("bedrock-openai", "openai.gpt-oss-120b-1:0") is not None
    assert price_of("demo", "any") == Price(0, 0)
    assert price_of("openai", "no-such-model") is None
    assert price_of("my-own-server", "gpt-4o-mini") is None
