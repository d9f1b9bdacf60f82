"""All settings. Only this module reads the environment and .env.

A setting is a field of Settings: its environment variable is its name in capitals, its type says what is allowed, and
`setting(...)` holds its default and the sentence that docs/reference/settings.md and .env.example repeat
(tests/papers/test_readme.py compares the three). The environment beats .env, which beats the default; an empty variable
is an unset one.

A secret may stand in a file: NAME_FILE names the file that holds the value of NAME, as Docker's and Kubernetes'
secrets do (`API_KEY_FILE=/run/secrets/api_key`).

The credentials and addresses of upstreams have a shape instead of a field: {NAME}_API_KEY, {NAME}_BASE_URL and
{NAME}_MODEL, for the names in providers/vendors.py, AWS's own AWS_*, and HTTPS_PROXY with its like. They are handed on
in `upstreams`; `variables` has all there are, for the `${NAME}` of models.yaml. What the clouds need besides is a
setting marked `cloud`.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from io import StringIO
from ipaddress import ip_address, ip_network
from math import isinf
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import unquote

from dotenv import dotenv_values
from dotenv.parser import parse_stream

ROOT = Path(__file__).parent
ENV_FILE_CHARACTERS = 1_000_000
EXPORTED: set[str] = set()
"""The AWS_* and OTEL_* of the environment that were set from .env."""
SECRET_CHARACTERS = 100_000
SECRET_VARIABLE = re.compile(r".*_API_KEY|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|AWS_BEARER_TOKEN_BEDROCK")
UPSTREAM_VARIABLE = re.compile(
    r"[A-Z][A-Z0-9_]*_(API_KEY|BASE_URL|ENDPOINT|MODEL)|AWS_[A-Z0-9_]+|(?i:HTTPS?|ALL|NO)_PROXY"
)
FILE_VARIABLE = re.compile(rf"({SECRET_VARIABLE.pattern}|AWS_ACCESS_KEY_ID|(?i:(HTTPS?|ALL)_PROXY))_FILE")
"""Names the file of an upstream's secret; a proxy's address may hold a password."""
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
OTEL_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
OTEL_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTEL_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
NAMED_KEY = re.compile(r"([A-Za-z0-9_-]+):(.+)")


class SettingError(Exception):
    """A setting cannot be read. The message has its name, its value unless secret, and what is allowed."""


def setting(
    default: Any,
    about: str,
    *,
    also: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    secret: bool = False,
    cloud: bool = False,
) -> Any:
    """A field of Settings. `also` are other names of the variable; `choices`, `least` and `most` bound its value;
    the clouds' configs receive a `cloud` field.
    """
    facts = {"about": about, "also": also, "choices": choices, "least": least, "most": most, "secret": secret}
    return field(default=default, repr=not secret, metadata={**facts, "cloud": cloud})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the service. Build it with `load`, or directly in tests."""

    in_use: ClassVar["Settings | None"] = None
    """gunicorn's master sets them: the workers use the settings that it has checked, and only the master reads .env."""
    bound: ClassVar[tuple[str, ...]] = ()
    """The hosts of gunicorn's --bind, which replace HOST."""
    metrics_folder: ClassVar[str] = ""
    """The folder of the workers' metrics; "" for a single process."""
    processes: ClassVar[int] = 0
    """The number of gunicorn's --workers, which replaces WORKERS; 0 without gunicorn."""

    host: str = setting("127.0.0.1", "Address to listen on. Another than this machine's own needs a key.")
    port: int = setting(8000, "Port to listen on.", least=0, most=65535)
    workers: int = setting(1, "Processes. One serves hundreds of calls; more use more cores.", least=1)
    threads: int = setting(1280, "Requests that one worker serves at the same time.", least=1)
    max_in_flight: int = setting(
        0, "Requests that one worker takes at the same time; 0: an eighth less than THREADS. More get a 503.", least=0
    )
    max_sockets: int = setting(1000, "WebSockets that one worker keeps open at the same time; 0: none.", least=0)
    graceful_timeout: float = setting(30.0, "Seconds that running streams have to end after SIGTERM.", least=0)
    reload: bool = setting(False, "Restart when a source file changes (development).")
    warm: bool = setting(True, "Open TLS connections to the providers before the first caller comes, and keep them.")
    max_body_bytes: int = setting(20_971_520, "Largest request body; a larger one is a 413.", least=1)
    max_messages: int = setting(10_000, "Most messages of a conversation.", least=1)
    max_items: int = setting(
        1000, "Most items of its other lists: the parts or tool calls of a message, tools, functions, stop.", least=1
    )
    max_inputs: int = setting(2048, "Most inputs of a request for embeddings.", least=1)
    max_documents: int = setting(10_000, "Most documents of a request to rerank.", least=1)
    max_values: int = setting(500_000, "Most values of a body in all, whatever they are.", least=1)
    api_route_prefix: str = setting("/v1", "One more path prefix; `/v1` and bare paths always answer.")

    api_key: str = setting("", "The key that callers must send; any text.", secret=True)
    api_keys: tuple[str, ...] = setting(
        (),
        "Several keys, comma-separated, each `key` or `name:key`; the name shows in the logs.",
        also=("ACCESS_API_KEYS", "DEFAULT_API_KEYS"),
        secret=True,
    )
    key_in_path: bool = setting(
        False, "Take a key out of the path too, `/k/YOUR-KEY/v1/...`, for clients that can send no header."
    )
    end_revoked_streams: bool = setting(False, "End the running streams of a key that is taken out of MODELS_FILE.")
    limits_fail_open: bool = setting(
        True, "Serve keys with limits while these cannot be counted; false: refuse them with a 503."
    )
    metrics_key: str = setting(
        "", "The key that opens `/metrics`, besides those of admins; it opens nothing else.", secret=True
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses and networks of the web servers in front, comma-separated: `X-Forwarded-For`, else "
        "`Forwarded`, is believed from them alone. `unix` is a Unix socket.",
    )
    allow_anonymous: bool = setting(False, "Serve everybody without a key, also over a public address.")
    allowed_origins: tuple[str, ...] = setting((), "Web pages that may call from a browser: comma-separated origins.")
    pages: bool = setting(True, "Serve the pages for people: the playground, the live view and `/docs`.")

    public_url: str = setting(
        "", "Where callers reach this server, if a proxy changes the Host: Twilio signs the address that it dials."
    )
    twilio_auth_token: tuple[str, ...] = setting(
        (),
        "Twilio's auth token, which proves that it is Twilio that dials; with commas several, or shared keys' secrets.",
        secret=True,
    )
    elevenlabs_api_key: str = setting(
        "", "The API key at ElevenLabs whose Speech Engine may dial; its token is checked by it.", secret=True
    )
    voice_sources: tuple[str, ...] = setting(
        (), "Networks that phone platforms dial from, comma-separated: they need no key then."
    )

    provider_name: str = setting("", "The default provider; unset: the first one with credentials.")
    reasoning: str = setting("hide", "Whether a model's thinking is passed on unasked.", choices=("hide", "show"))
    demo_pace_ms: float = setting(40.0, "Milliseconds between the demo provider's words.", least=0, most=10_000)
    models_ttl: float = setting(300.0, "Seconds that an upstream's list of models is kept.", least=0)

    models_file: str = setting("models.yaml", "Providers and models by name; followed while it changes.")
    model_list_url: str = setting("", "A list of models to fetch and offer, refreshed in the background.")
    model_list_auth_token: str = setting("", "Sent with it, and to its host alone, as `OAuth ...`.", secret=True)
    model_list_refresh: float = setting(300.0, "Seconds between two looks at that list.", least=1)
    data_dir: str = setting("data", "Where what must outlive a restart is kept.")
    state_url: str = setting(
        "",
        "Where sessions and limits are kept: `redis://...` for several machines; unset: files in DATA_DIR.",
        secret=True,
    )

    database_url: str = setting(
        "",
        "Where usage is kept: `postgresql://...` for several machines; unset: a file in DATA_DIR.",
        secret=True,
    )
    usage_days: float = setting(
        400.0, "Days that the table of usage keeps a request; 0: there is no table, and no budget holds.", least=0
    )

    responses_ttl: float = setting(
        3600.0, "Seconds that an answer of /v1/responses can be followed by its id; 0: none is kept.", least=0
    )
    responses_drop_tools: bool = setting(
        False, "Leave OpenAI's own tools out of requests to /v1/responses, which are refused otherwise."
    )

    model_aliases: tuple[str, ...] = setting(
        (), "Other names for models: comma-separated `name=provider/model`, such as `gpt-4o-mini=groq/llama-3.3-70b`."
    )

    agent_id: str = setting("", "The Amazon Bedrock agent that answers as `bedrock-agent`.", cloud=True)
    agent_alias_id: str = setting("", "That agent's alias.", cloud=True)
    agents: tuple[str, ...] = setting((), "More agents: comma-separated `name=agentId/aliasId`.", cloud=True)
    agent_trace: bool = setting(True, "Have agents trace: it is what their token counts come from.", cloud=True)

    bedrock_models_model: str = setting(
        "", "The Bedrock model for requests that name none; unset: Nova Lite.", cloud=True
    )

    oci_config_file: str = setting("~/.oci/config", "The OCI SDK's configuration file.", cloud=True)
    oci_config_profile: str = setting("DEFAULT", "The profile in that file.", also=("OCI_CONFIG_FILE_KEY",), cloud=True)
    oci_region: str = setting("", "The OCI region; unset: the profile's.", also=("OCI_CONFIG_REGION",), cloud=True)
    oci_compartment: str = setting("", "The OCI compartment that is billed; unset: the tenancy.", cloud=True)
    auth_type: str = setting(
        "API_KEY",
        "How to sign in to OCI.",
        choices=("API_KEY", "SESSION_TOKEN", "INSTANCE_PRINCIPAL", "RESOURCE_PRINCIPAL", "WORKLOAD_IDENTITY"),
        cloud=True,
    )
    oci_model: str = setting("meta.llama-3.3-70b-instruct", "The OCI model for requests that name none.", cloud=True)
    oci_api_key: str = setting(
        "", "A Generative AI API key: models other than Cohere's then need no profile.", secret=True, cloud=True
    )
    oci_service_endpoint: str = setting(
        "", "Replaces scheme and host of OCI's inference and management, for private endpoints.", cloud=True
    )
    oci_cohere_max_tokens: int = setting(
        4000, "More tokens than this are not asked of Cohere's models on OCI.", least=1, cloud=True
    )
    embed_truncate: str = setting(
        "END", "What is cut from a text that is too long to embed.", choices=("NONE", "START", "END"), cloud=True
    )
    debug_oci_sdk: bool = setting(False, "Log each request to OCI, and what its SDK does to sign in.", cloud=True)

    connect_timeout: float = setting(3.0, "Seconds to connect to an upstream.", least=0.001)
    first_event_timeout: float = setting(
        15.0,
        "Seconds until an upstream's first event; four times as long for an answer that is not streamed, "
        "twelve times for pictures.",
        least=0.001,
    )
    idle_timeout: float = setting(30.0, "Seconds between an upstream's bytes, once begun.", least=0.001)
    total_timeout: float = setting(300.0, "Seconds for a whole answer.", least=0.001)
    filler_after_ms: float = setting(
        0.0, "Milliseconds of silence after which a phrase is said while the first word is awaited; 0: never.", least=0
    )
    filler_text: str = setting("One moment...", "That phrase, or several with `|` between them, which take turns.")
    filler_with_tools: bool = setting(
        False, "Say it also where the answer may be a tool call, which then follows the phrase."
    )
    headers_after: float = setting(
        8.0, "Seconds after which a stream opens with a heartbeat, event or not.", least=0.001
    )
    heartbeat: float = setting(5.0, "Seconds of silence after which the caller gets a comment line.", least=0.001)
    retries: int = setting(2, "How often a failed attempt is repeated before its first event.", least=0, most=20)
    retry_budget: float = setting(2.0, "Seconds of a request that may go into failed attempts and waiting.", least=0)
    refused_parameter_ttl: float = setting(
        3600.0,
        "Seconds that a model is not sent a tuning parameter (temperature, max_tokens ...) which it has refused; 0: "
        "refusals are passed on.",
        least=0,
    )
    breaker_failures: int = setting(10, "Failures in a row that open a target's breaker.", least=1)
    breaker_seconds: float = setting(30.0, "Seconds until an open breaker lets one attempt through.", least=0.001)

    log_level: str = setting(
        "INFO",
        "How much is logged.",
        choices=("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"),
    )
    log_format: str = setting("text", "How a log line looks.", choices=("text", "json"))
    log_file: str = setting("", "A file to log to as well; it rotates, and workers share it.")
    log_max_bytes: int = setting(10_485_760, "Size at which the log file rotates.", least=1000)
    log_backups: int = setting(5, "Rotated log files that are kept.", least=0)
    traces_content: bool = setting(
        False,
        "Have traces tell what was said, too.",
        also=("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",),
    )
    debug: bool = setting(False, "LOG_LEVEL=DEBUG, by its older name.")
    trace: bool = setting(False, "LOG_LEVEL=TRACE, by its older name: bodies too.")

    upstreams: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)

    def __post_init__(self) -> None:
        prefix = self.api_route_prefix
        if prefix and not re.fullmatch(r"(?!/k(/|\Z))(/[A-Za-z0-9._~-]+)*/?", prefix):
            raise SettingError(
                f"API_ROUTE_PREFIX is {prefix!r}; allowed are paths such as /v1 or /api/v1, other than /k."
            )
        if self.model_list_url and not re.fullmatch(r"https?://[^\s/@]+[!-~]*", self.model_list_url):
            raise SettingError("MODEL_LIST_URL is not an address; allowed: http:// or https://, without a password.")
        if self.public_url and not re.fullmatch(r"(https?|wss?)://[^\s/@?#]+(/[!-~]*)?", self.public_url):
            raise SettingError("PUBLIC_URL is not an address; allowed: such as https://voice.example.com.")
        for address in self.voice_sources:
            if not _is_network(address):
                raise SettingError(
                    f"VOICE_SOURCES has {address!r}; allowed are addresses and networks such as 192.0.2.0/24."
                )
        for address in self.trusted_proxies:
            if address != "unix" and not _is_network(address):
                raise SettingError(
                    f"TRUSTED_PROXIES has {address!r}; allowed are unix, and addresses or networks such as 10.0.0.0/8."
                )
        for origin in self.allowed_origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.:\[\]_-]+", origin):
                raise SettingError(
                    f"ALLOWED_ORIGINS has {origin!r}; allowed are * and origins such as https://app.example.com."
                )
        if self.max_in_flight >= self.threads > 1:
            raise SettingError(f"MAX_IN_FLIGHT is {self.max_in_flight}; allowed: less than THREADS, {self.threads}.")
        if self.log_file and not _can_log_to(Path(self.log_file).absolute()):
            raise SettingError(f"LOG_FILE is {self.log_file!r}; allowed: a file in a folder that can be written to.")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """The settings from the environment and the file .env (or the one that ENV_FILE names). Raises SettingError.

        AWS_* of the file go into the environment: Amazon's SDK has more settings than could be passed to it.
        """
        real = environ is None
        environ = {k: v for k, v in os.environ.items() if k not in EXPORTED} if environ is None else environ  # noqa: TID251 - the one place
        path = environ.get("ENV_FILE")
        file = _with_secrets(_read(Path(path or ROOT / ".env"), required=bool(path)))
        given = _with_secrets({name: _Line(value, "") for name, value in _set(environ).items()})
        lines = {**file, **given}
        settings = cls.of(
            {name: line.value for name, line in lines.items()}, {name: line.place for name, line in lines.items()}
        )
        if real:
            settings.export()
        return settings

    @classmethod
    def of(cls, variables: Mapping[str, str], places: Mapping[str, str] | None = None) -> "Settings":
        """The settings from variables alone; `places` are the lines of those in a file. Raises SettingError."""
        known = {each.name: _value(each, variables, places or {}) for each in setting_fields()}
        upstreams = {name: value for name, value in variables.items() if UPSTREAM_VARIABLE.fullmatch(name)}
        return cls(**known, upstreams=MappingProxyType(upstreams), variables=MappingProxyType(dict(variables)))

    def export(self) -> None:
        """Put these AWS_* and OTEL_* into the environment if it lacks them, and remove those of earlier settings."""
        for name in EXPORTED:
            os.environ.pop(name, None)  # noqa: TID251
        theirs = {name: value for name, value in self.variables.items() if name.startswith(("AWS_", "OTEL_"))}
        missing = theirs.keys() - _set(os.environ).keys()  # noqa: TID251
        os.environ.update({name: theirs[name] for name in missing})  # noqa: TID251
        EXPORTED.clear()
        EXPORTED.update(missing)

    @classmethod
    def share_metrics(cls, folder: str) -> None:
        """Have workers that are forked from now on share their metrics in `folder`; prometheus_client reads it from the
        environment.
        """
        cls.metrics_folder = folder
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # noqa: TID251

    @property
    def in_flight(self) -> int:
        """MAX_IN_FLIGHT, or the default for THREADS."""
        return self.max_in_flight or max(1, self.threads - max(1, self.threads // 8))

    @property
    def clouds(self) -> Mapping[str, Any]:
        """The settings marked `cloud`, by field."""
        return {each.name: getattr(self, each.name) for each in setting_fields() if each.metadata["cloud"]}

    @property
    def keys(self) -> Mapping[str, str]:
        """The callers' keys: name -> key. Empty when none is configured."""
        keys = {"default": self.api_key} if self.api_key else {}
        for position, text in enumerate(self.api_keys, start=1):
            match = NAMED_KEY.fullmatch(text)
            name, key = match.groups() if match else (f"key{position}", text)
            if name in keys and keys[name] != key:
                raise SettingError(f"API_KEYS has two keys of the name {name!r}; give each its own.")
            keys[name] = key
        return keys

    @property
    def secrets(self) -> list[str]:
        """All secret values: of settings that are secret, and of the upstreams' keys."""
        ours = [getattr(self, each.name) for each in setting_fields() if each.metadata["secret"]]
        texts = [text for value in ours for text in ([value] if isinstance(value, str) else value)]
        theirs = [value for name, value in self.upstreams.items() if SECRET_VARIABLE.fullmatch(name)]
        addresses = [value for value in self.upstreams.values() if "@" in value and "://" in value]
        collectors = [each.partition("=")[2] for name in OTEL_HEADERS for each in self._otel(name).split(",")]
        return [*texts, *self.keys.values(), *theirs, *addresses, *map(unquote, filter(None, collectors))]

    @property
    def sends_traces(self) -> bool:
        """Whether an address for traces is set, and traces are not turned off."""
        is_off = self._otel("OTEL_SDK_DISABLED").lower() == "true" or self._otel("OTEL_TRACES_EXPORTER") == "none"
        return any(map(self._otel, OTEL_ENDPOINTS)) and not is_off

    @property
    def traces_protocol(self) -> str:
        """The protocol of traces, "" if it is not set."""
        return next(filter(None, map(self._otel, OTEL_PROTOCOLS)), "")

    def _otel(self, name: str) -> str:
        return self.variables.get(name, "")

    @property
    def address(self) -> str:
        """host:port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def level(self) -> str:
        """LOG_LEVEL, or the level that TRACE or DEBUG sets."""
        return "TRACE" if self.trace else "DEBUG" if self.debug else self.log_level

    def require_key_if_public(self, host: str, *, file_has_keys: bool = False) -> None:
        """Refuse to serve the public without a key, here or in the models file (decision 6): raises SettingError for a
        public address.
        """
        if self.keys or file_has_keys or self.allow_anonymous or is_this_machine(host):
            return
        raise SettingError(
            f"HOST is {host!r}, which others can reach, and no key is set. "
            "Set API_KEY to a secret of your own (or ALLOW_ANONYMOUS=true to serve everybody)."
        )


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_this_machine(host: str) -> bool:
    """Whether a host name or address means this machine alone. A path is a Unix socket."""
    if host in ("localhost", "localhost.localdomain") or host.startswith(("unix:", "/")):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback  # ip_address knows an IPv6 address's zone
    except ValueError:
        return False


def env_file() -> Path:
    """The file that settings are read from, whether it exists or not."""
    return Path(os.environ.get("ENV_FILE") or ROOT / ".env")  # noqa: TID251


def _can_log_to(path: Path) -> bool:
    try:
        fit = _is_plain(path.stat()) and os.access(path, os.W_OK)
    except FileNotFoundError:
        fit = True
    except OSError:
        return False
    return fit and os.access(path.parent, os.W_OK)


def setting_fields() -> list[Field[Any]]:
    """The fields of Settings that are settings, in the order of docs/reference/settings.md."""
    return [each for each in fields(Settings) if each.metadata]


def names_a_secret_file(variable: str) -> bool:
    """Whether the variable names the file of a secret."""
    secret = (each for each in setting_fields() if each.metadata["secret"])
    names = {f"{name}_FILE" for each in secret for name in (each.name.upper(), *each.metadata["also"])}
    return variable in names or bool(FILE_VARIABLE.fullmatch(variable))


@dataclass(frozen=True, slots=True)
class _Line:
    """A variable's value, and where it stands if that is a file."""

    value: str
    place: str


def _with_secrets(lines: Mapping[str, _Line]) -> dict[str, _Line]:
    """The variables, and those whose secrets are in files. Raises SettingError with setting and file."""
    found = dict(lines)
    for variable, line in lines.items():
        if not names_a_secret_file(variable):
            continue
        name, path = variable.removesuffix("_FILE"), Path(line.value)
        if name in lines:  # it is ambiguous
            raise SettingError(f"{name} and {variable} are both set{line.place}; unset one of them.")
        # A secret in the place of its file's name is not shown either.
        shown = (
            repr(line.value) if path.is_absolute() or (len(path.parts) > 1 and path.parent.is_dir()) else "(not shown)"
        )
        found[name] = _Line(_secret(path, f"{variable} is {shown}{line.place}"), f" (in {path})")
    return found


def _secret(path: Path, setting: str) -> str:
    """The only line of a file. Raises SettingError, without the content."""
    try:
        text = _text(path)
    except (OSError, ValueError) as error:
        raise SettingError(f"{setting}, which cannot be read: {_reason(error)}.") from None
    value = re.sub(r"\r?\n\Z", "", text.removeprefix("\ufeff"))
    if not value.strip():
        raise SettingError(f"{setting}, which is empty.")
    if len(text) > SECRET_CHARACTERS or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise SettingError(f"{setting}, which holds no secret; allowed: one line of text.")
    return value


def _text(path: Path) -> str:
    """A file's text. Never waits: a pipe without a writer is refused. Raises OSError and ValueError."""
    with open(path, encoding="utf-8", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        if not _is_plain(os.fstat(file.fileno())):
            raise OSError(errno.EINVAL, "it is no file")
        return file.read(ENV_FILE_CHARACTERS)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "its name is none"


def _read(env_file: Path, *, required: bool) -> dict[str, _Line]:
    """The variables of .env. Raises SettingError with file and line, and never waits."""
    try:
        text = _text(env_file)
    except FileNotFoundError:
        if required:
            raise SettingError(f"ENV_FILE is {str(env_file)!r}; there is no such file.") from None
        return {}
    except (OSError, ValueError) as error:
        raise SettingError(f"{env_file} cannot be read: {_reason(error)}.") from None
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        begun = binding.original.string
        line = binding.original.line + begun[: len(begun) - len(begun.lstrip())].count("\n")
        if binding.error or (binding.key and binding.value is None):  # the line's text may be a secret
            raise SettingError(f"{env_file}, line {line} cannot be read; it must look like NAME=value.")
        if binding.key:
            lines[binding.key] = line
    values = dotenv_values(stream=StringIO(text))
    return {
        name: _Line(value.strip(), f" ({env_file}, line {lines[name]})")
        for name, value in values.items()
        if value and value.strip()
    }


def _is_plain(status: os.stat_result) -> bool:
    """Whether it is a file, or a device such as /dev/null: no pipe, socket or folder."""
    return stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)


def _set(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in variables.items() if value.strip()}


def _value(each: Field[Any], variables: Mapping[str, str], places: Mapping[str, str]) -> Any:
    names = (each.name.upper(), *each.metadata["also"])
    if each.type == tuple[str, ...]:
        return tuple(part.strip() for name in names for part in variables.get(name, "").split(",") if part.strip())
    name = next((name for name in names if name in variables), None)
    if name is None:
        assert each.default is not MISSING  # noqa: S101 - `setting` gives each a default
        return each.default
    text = variables[name]
    parse: Callable[[str, Mapping[str, Any]], Any] = PARSERS[each.type]
    try:
        return parse(text, each.metadata)
    except ValueError as error:
        shown = "(not shown)" if each.metadata["secret"] else repr(text)
        raise SettingError(f"{name} is {shown}{places.get(name, '')}; allowed: {error}.") from None


def _string(text: str, facts: Mapping[str, Any]) -> str:
    choices = facts["choices"]
    if not choices:
        return text
    matching = [choice for choice in choices if choice.lower() == text.lower()]
    if not matching:
        raise ValueError(", ".join(choices))
    return str(matching[0])


def _boolean(text: str, _: Mapping[str, Any]) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError("true or false, 1 or 0, yes or no, on or off")
    return BOOLEANS[text.lower()]


def _number(kind: Callable[[str], float], what: str) -> Callable[[str, Mapping[str, Any]], float]:
    def parse(text: str, facts: Mapping[str, Any]) -> float:
        least, most = facts["least"], facts["most"]
        bounds = f" from {least}" * (least is not None) + f" up to {most}" * (most is not None)
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(what + bounds) from None
        if not (least is None or value >= least) or not (most is None or value <= most) or isinf(value):
            raise ValueError(what + bounds)
        return value

    return parse


PARSERS: Mapping[Any, Callable[[str, Mapping[str, Any]], Any]] = {
    str: _string,
    bool: _boolean,
    int: _number(int, "a whole number"),
    float: _number(float, "a number"),
}
