"""Who exists: the kinds of providers, a line each, and the upstreams with an address and a key, a row each.

To add an upstream, add a row: `make docs` adds it to docs/providers/index.md and .env.example, and tests cover it.

The environment variables of a row are {NAME}_API_KEY, {NAME}_BASE_URL and {NAME}_MODEL, NAME being the row's name in
capitals with `-` as `_`. A row without `base_url` is configured by its base URL, the others by their key.
"""

from dataclasses import dataclass, replace
from typing import Literal

from providers import dialects
from providers.dialects import Dialect

PROVIDERS = {
    "agentcore-harness": "providers.bedrock.agentcore.harness:AgentCoreHarness",
    "agentcore-runtime": "providers.bedrock.agentcore.runtime:AgentCoreRuntime",
    "anthropic": "providers.anthropic.provider:Anthropic",
    "bedrock": "providers.bedrock.agents.provider:BedrockAgent",
    "bedrock-models": "providers.bedrock.models.provider:BedrockModels",
    "cohere": "providers.cohere.provider:Cohere",
    "demo": "providers.demo.provider:DemoProvider",
    "gemini": "providers.gemini.provider:Gemini",
    "ideogram": "providers.images.ideogram:Ideogram",
    "oci": "providers.oci.provider:OCI",
    "oci-agent": "providers.oci.agents.provider:OciAgent",
    "openai_compatible": "providers.openai_compatible.provider:OpenAICompatible",
    "recraft": "providers.images.recraft:Recraft",
}
"""Kinds -> provider classes. An OpenAI-shaped upstream needs no line here."""
EMBEDDINGS, IMAGES, MODERATIONS, RERANK = "embeddings", "images", "moderations", "rerank"
CHATS_ALONE = frozenset({EMBEDDINGS, IMAGES, MODERATIONS, RERANK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """An upstream with an address and a key.

    kind                 its dialect, a key of PROVIDERS
    openai_suffix        the end of the address of the vendor's OpenAI-shaped endpoint, for any `kind`
    base_url             the address before `/chat/completions`; "" if each user has their own
    chat_path            what follows the address, for a chat
    path                 added to an address that is a bare host, as the vendor's own SDK does
    model                the default model; "" if only the user knows it
    env_aliases          other environment variables for (key, base URL), as the vendor's own SDK spells them
    key_header           the header with the key, and key_scheme the word before the key
    strict               sends only parameters of OpenAI's published document
    usage                supports `stream_options`, so that usage can be requested
    dialect              its deviations from OpenAI's dialect
    lacks                the endpoints that it does not have
    frames               auto: bytes pass while they hold only OpenAI's own keys; rebuilt, verbatim: always
    responses            has /responses itself, which gets bodies unchanged: never; own: only at its own address; always
    embedding_batch      inputs that one embeddings request may have
    keyless              answers without a key (a server of one's own)
    has_vendor_prefixes  its models' ids begin with a vendor's name: cohere.command-r-v1:0
    task                 "images" for a vendor that makes images and does not chat
    pictures             its own domains, from which its images may be downloaded
    key_setting          the setting of its key, for the message when the key is refused
    prices               the row whose prices its models have; "" for its own
    """

    name: str
    label: str
    kind: str = "openai_compatible"
    openai_suffix: str = ""
    base_url: str = ""
    chat_path: str = "/chat/completions"
    path: str = ""
    model: str = ""
    env_aliases: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    key_header: str = "Authorization"
    key_scheme: str = "Bearer"
    strict: bool = False
    usage: bool = True
    dialect: Dialect = dialects.ANY
    lacks: frozenset[str] = frozenset()
    frames: Literal["auto", "verbatim", "rebuilt"] = "auto"
    responses: Literal["never", "own", "always"] = "never"
    embedding_batch: int = 2048
    keyless: bool = False
    has_vendor_prefixes: bool = False
    task: Literal["", "images"] = ""
    pictures: tuple[str, ...] = ()
    key_setting: str = ""
    prices: str = ""

    def at(self, address: str) -> "Vendor":
        """The row for an address: a vendor's OpenAI-shaped endpoint has that dialect, and takes a bearer token."""
        if self.responses == "own" and address.rstrip("/") != self.base_url:
            return replace(self, responses="never")
        if self.openai_suffix and address.partition("?")[0].endswith(self.openai_suffix):
            return replace(self, kind="openai_compatible", key_header="Authorization", key_scheme="Bearer")
        return self

    def credential(self, key: str) -> dict[str, str]:
        """The header with a key; {} for an empty key."""
        return {self.key_header: f"{self.key_scheme} {key}".strip()} if key else {}

    @property
    def variable(self) -> str:
        """The stem of the row's environment variables."""
        return self.name.upper().replace("-", "_")


OCI_PREFIXES = ("cohere.", "meta.", "xai.", "openai.", "google.")
"""The prefixes of OCI's names of its on-demand models."""

VENDORS = (
    Vendor(
        name="openai",
        label="OpenAI",
        base_url="https://api.openai.com/v1",
        model="gpt-4o-mini",
        strict=True,
        responses="own",
        dialect=dialects.OPENAI,
        lacks=frozenset({RERANK}),
    ),
    Vendor(
        name="anthropic",
        label="Anthropic",
        kind="anthropic",
        base_url="https://api.anthropic.com",
        model="claude-haiku-4-5",
        key_header="x-api-key",
        key_scheme="",
    ),
    Vendor(
        name="deepseek",
        label="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        model="deepseek-v4-flash",
        dialect=dialects.DEEPSEEK,
        lacks=CHATS_ALONE,
    ),
    Vendor(
        name="groq",
        label="Groq",
        base_url="https://api.groq.com/openai/v1",
        model="llama-3.3-70b-versatile",
        dialect=dialects.GROQ,
        lacks=CHATS_ALONE,
    ),
    Vendor(
        name="together",
        label="Together AI",
        base_url="https://api.together.xyz/v1",
        model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        dialect=dialects.LOCAL,
        lacks=frozenset({MODERATIONS}),
    ),
    Vendor(
        name="fireworks",
        label="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        model="accounts/fireworks/models/llama-v3p3-70b-instruct",
        dialect=dialects.LOCAL,
        lacks=frozenset({MODERATIONS}),
    ),
    # Mistral sends usage always, and refuses stream_options with a 422.
    Vendor(
        name="mistral",
        label="Mistral AI",
        base_url="https://api.mistral.ai/v1",
        model="mistral-small-latest",
        usage=False,
        dialect=dialects.MISTRAL,
        lacks=frozenset({IMAGES, RERANK}),
    ),
    Vendor(
        name="xai",
        label="xAI",
        base_url="https://api.x.ai/v1",
        model="grok-4-fast",
        responses="own",
        lacks=frozenset({MODERATIONS, RERANK}),
    ),
    Vendor(
        name="openrouter",
        label="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        model="openai/gpt-4o-mini",
        dialect=dialects.OPENROUTER,
        lacks=frozenset({MODERATIONS}),
    ),
    Vendor(
        name="azure",
        label="Azure OpenAI",
        model="gpt-4o-mini",
        env_aliases=(("AZURE_OPENAI_API_KEY",), ("AZURE_OPENAI_ENDPOINT",)),
        path="/openai/v1",
        key_header="api-key",
        key_scheme="",
        responses="always",
        dialect=dialects.AZURE,
        lacks=frozenset({MODERATIONS, RERANK}),
    ),
    Vendor(name="closeai", label="CloseAI", base_url="https://api.openai-proxy.org/v1", model="gpt-4o-mini"),
    Vendor(
        name="gemini",
        label="Google Gemini",
        kind="gemini",
        openai_suffix="/openai",
        base_url="https://generativelanguage.googleapis.com",
        model="gemini-2.5-flash",
        key_header="x-goog-api-key",
        key_scheme="",
        embedding_batch=100,
        dialect=dialects.GEMINI,
        lacks=frozenset({MODERATIONS, RERANK}),
    ),
    Vendor(
        name="cohere",
        label="Cohere",
        kind="cohere",
        openai_suffix="/compatibility/v1",
        base_url="https://api.cohere.com",
        model="command-a-03-2025",
        embedding_batch=96,
        lacks=frozenset({IMAGES, MODERATIONS, RERANK}),
    ),
    Vendor(
        name="bedrock-openai",
        label="Amazon Bedrock, OpenAI-shaped",
        base_url="https://bedrock-runtime.{region}.amazonaws.com/openai/v1",
        model="openai.gpt-oss-120b-1:0",
        has_vendor_prefixes=True,
        lacks=CHATS_ALONE,
    ),
    # An endpoint for think providers like ours: a chat is a POST to /v1/think itself. It has no list of models.
    Vendor(
        name="deepgram",
        label="Deepgram",
        base_url="https://agent.deepgram.com/v1",
        chat_path="/think",
        model="think-fast",
        key_scheme="Token",
        usage=False,
        dialect=dialects.DEEPGRAM,
        lacks=CHATS_ALONE,
    ),
    # A project's address, https://NAME.services.ai.azure.com/api/projects/PROJECT/openai/v1, and a token of Entra's.
    Vendor(
        name="azure-foundry",
        label="Azure AI Foundry",
        path="/openai/v1",
        model="gpt-4o-mini",
        responses="always",
        dialect=dialects.AZURE,
        lacks=CHATS_ALONE,
    ),
    Vendor(
        name="ollama",
        label="Ollama",
        path="/v1",
        model="llama3.2",
        keyless=True,
        dialect=dialects.LOCAL,
        lacks=frozenset({MODERATIONS, RERANK}),
    ),
    Vendor(name="vllm", label="vLLM", path="/v1", keyless=True, dialect=dialects.LOCAL),
    Vendor(name="llamacpp", label="llama.cpp", path="/v1", keyless=True, dialect=dialects.LOCAL),
    Vendor(name="lmstudio", label="LM Studio", path="/v1", keyless=True, dialect=dialects.LOCAL),
    Vendor(
        name="ideogram",
        label="Ideogram (pictures)",
        kind="ideogram",
        base_url="https://api.ideogram.ai",
        model="V_3",
        key_header="Api-Key",
        key_scheme="",
        task="images",
        pictures=("ideogram.ai",),
    ),
    Vendor(
        name="recraft",
        label="Recraft (pictures)",
        kind="recraft",
        base_url="https://external.api.recraft.ai/v1",
        model="recraftv3",
        task="images",
        pictures=("recraft.ai",),
    ),
)


def defaults_for_kind(kind: str, name: str) -> Vendor | None:
    """The defaults of a provider of another name that speaks a vendor's own dialect."""
    found = next((row for row in VENDORS if row.kind == kind != "openai_compatible"), None)
    return replace(found, name=name, label=name, prices=found.name) if found else None
