"""A model of models.yaml as a ModelConfig, with its deployments."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.guardrails import GuardrailRules
from core.masking import KNOWN_SECRETS
from core.prices import Price
from dispatch.routing.config import Deployment, Filler, Guardrail, ModelConfig
from dispatch.routing.voice_config import VoiceConfig, Webhook
from providers.base import ParameterRules

WHERE = (
    "region", "compartment", "endpoint", "type", "api_format", "stream_by",
    "qualifier", "prompt_field", "system_field", "text_path",
)  # fmt: skip
TIMEOUTS = {
    "connect_timeout": "connect",
    "first_event_timeout": "first_event",
    "idle_timeout": "idle",
    "total_timeout": "total",
}


def model_config(given: Mapping[str, Any]) -> ModelConfig:
    """A row of `models`. It cannot fail, because the schema has checked it."""
    model = given.get("model") or given.get("model_id") or given["name"]
    places = given.get("upstreams") or [{"provider": given["provider"]}]
    upstreams = tuple(
        Deployment(each["provider"], each.get("model", model), each.get("weight", 1), each.get("rpm"))
        for each in places
    )
    ttft, price = given.get("ttft_timeout_ms"), given.get("price")
    return ModelConfig(
        name=given["name"],
        upstreams=upstreams,
        aliases=tuple(given.get("aliases", ())),
        fallbacks=tuple(given.get("fallbacks", ())),
        timeouts=timeouts_of(given),
        ttft_timeout=ttft / 1000 if ttft else None,
        hedge_after=given["hedge_after_ms"] / 1000 if "hedge_after_ms" in given else None,
        hedge_agents=given.get("hedge_agents", False),
        filler=Filler.of(given.get("filler_after_ms"), as_list(given.get("filler_text"))),
        speech=given.get("speech", False),
        voice=voice_config(given.get("voice", {})),
        guardrail=_guardrail(given["guardrail"]) if "guardrail" in given else None,
        max_tokens=given.get("max_tokens"),
        rules=_rules(given.get("params") or given.get("param_config") or {}),
        tools=given.get("tool_call", True),
        stream_tools=given.get("stream_tool_call", True),
        images=given.get("multimodal", True),
        price=_price(price) if price else None,
        owned_by=given.get("owned_by") or upstreams[0].provider,
        description=given.get("description", ""),
        details=model_details(given),
    )


def _price(given: Mapping[str, Any]) -> Price:
    prices = dict(given)
    if above := prices.pop("above", None):
        others = dict(above)
        prices["above"] = others.pop("tokens"), Price(**others)
    return Price(**prices)


def voice_config(given: Mapping[str, Any]) -> VoiceConfig:
    """How a model speaks on the phone. The webhook's secret is hidden in logs from now on."""
    webhook = given.get("webhook")
    if webhook:
        KNOWN_SECRETS.add([webhook["secret"]])
    return VoiceConfig(
        instructions=given.get("instructions", ""),
        greeting=given.get("greeting", ""),
        platform_tools=tuple(given["platform_tools"]) if "platform_tools" in given else None,
        transfer_to=tuple(given.get("transfer_to", ())),
        sounds=given.get("sounds", {}),
        tools=tuple(given.get("tools", ())),
        webhook=Webhook(**webhook) if webhook else None,
    )


def _guardrail(given: Mapping[str, Any]) -> Guardrail:
    rules: dict[str, Any] = {name: tuple(given[name]) for name in ("content", "attacks", "sensitive") if name in given}
    rules |= {name: given[name] for name in ("id", "version", "threshold") if name in given}
    options: dict[str, Any] = {name: given[name] for name in ("phrase", "fails_open") if name in given}
    if "sides" in given:
        options["sides"] = frozenset(given["sides"])
    if "deadline_ms" in given:
        options["deadline"] = given["deadline_ms"] / 1000
    return Guardrail(given["provider"], GuardrailRules(**rules), **options)


def model_details(given: Mapping[str, Any]) -> dict[str, Any]:
    """The place of a cloud's model, such as its region, and how an agent is called, as far as they are given."""
    details = {key: given[key] for key in WHERE if key in given}
    return {**details, **({"compartment": given["compartment_id"]} if "compartment_id" in given else {})}


def over_accounts(upstreams: tuple[Deployment, ...], accounts: list[str]) -> tuple[Deployment, ...]:
    """The model's deployments: a provider with several accounts has one for each."""
    spread = []
    for upstream in upstreams:
        names = [name for name in accounts if name.partition("#")[0] == upstream.provider] or [upstream.provider]
        spread += [replace(upstream, provider=name) for name in names]
    return tuple(spread)


def timeouts_of(given: Mapping[str, Any]) -> dict[str, float]:
    """The time-outs of a provider or a model, in seconds, by the fields of Timeouts."""
    total = {"total": given["timeout"]} if "timeout" in given else {}
    return {**total, **{ours: given[name] for name, ours in TIMEOUTS.items() if name in given}}


def _rules(given: Mapping[str, Any]) -> ParameterRules:
    def rule(name: str) -> Any:
        return given.get(name) or given.get(f"{name}_params") or {}

    return ParameterRules(rule("update"), rule("add"), rule("rename"), tuple(rule("delete")))


def as_list(value: Any) -> list[str]:
    """One text or several, without empty ones; [""] for none."""
    given = value if isinstance(value, list) else [value]
    return [each for each in given if each] or [""]
