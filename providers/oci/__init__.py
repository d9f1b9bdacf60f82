"""OCI Generative AI, and models that OCI Data Science deploys: chat in four styles, embeddings, rerank, discovery.

https://docs.oracle.com/en-us/iaas/Content/generative-ai/overview.htm
"""

from collections.abc import Mapping, Sequence

from errors import Unsupported
from events import ChatRequest, EmbeddingsRequest, Events, RerankRequest
from providers.base import Call, Model, Provider, Target
from providers.oci import embeddings
from providers.oci.auth import Login
from providers.oci.discovery import Directory
from providers.oci.service import Service


class OCI(Provider):
    """One account at OCI. What is given is in dispatch/oci.py's words; nothing is read before the first request."""

    def __init__(
        self,
        *,
        name: str = "oci",
        model: str = "",
        auth_type: str = "API_KEY",
        config_file: str = "~/.oci/config",
        profile: str = "DEFAULT",
        credentials: Mapping[str, str] | None = None,
        region: str = "",
        compartment: str = "",
        places: Sequence[tuple[str, str]] = (),
        endpoint: str = "",
        api_key: str = "",
        api_format: str = "",
        proxy: str = "",
        cohere_max_tokens: int = 4000,
        embed_truncate: str = "END",
        debug: bool = False,
    ) -> None:
        self.name = name
        self.default_model = model
        self.embed_truncate = embed_truncate
        login = Login(name, auth_type, config_file, profile, credentials)
        self.service = Service(
            name, login, region=region, compartment=compartment, endpoint=endpoint, api_key=api_key, proxy=proxy
        )
        self.directory = Directory(self.service, places)

    def chat(self, request: ChatRequest, target: Target, call: Call) -> Events:
        """Answer in the style of the model's family."""
        raise Unsupported(f"{self.name} is on its way.", param="model")

    def embed(self, request: EmbeddingsRequest, target: Target, call: Call) -> Events:
        """POST /actions/embedText."""
        yield from embeddings.embed(
            self.service, request, self.directory.named(target, call), call, self.embed_truncate
        )

    def rerank(self, request: RerankRequest, target: Target, call: Call) -> Events:
        """POST /actions/rerankText."""
        yield from embeddings.rerank(self.service, request, self.directory.named(target, call), call)

    def models(self, call: Call) -> Sequence[Model]:
        """GET /models and /endpoints, in every region and compartment that is configured."""
        return self.directory.models(call)
