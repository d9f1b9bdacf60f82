"""What providers have in common that are asked by HTTP at one address, with one key."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamError
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from providers.base import Provider
from providers.transport.client import warm
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import request_json
from providers.transport.status_errors import error_from_response
from providers.vendors import Vendor

MOST_PAGES = 20
"""Pages of a list of models that are asked for: an upstream that always names a next page ends here."""


class HttpProvider(Provider):
    """A vendor of the table at one address. What is given is the user's own; `name` differs from the vendor's for a
    second account there.
    `headers` are sent with each request, besides the credential.
    """

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, vendor: Vendor, *, base_url: str, name: str = "", api_key: str = "", model: str = "", proxy: str = ""
    ) -> None:
        self.name = name or vendor.name
        self.default_model = model or vendor.model
        self._vendor = vendor
        address = self._address(base_url)
        self._account = Endpoint(self.name, address, {**vendor.credential(api_key), **self.headers}, proxy)

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection open there."""
        warm(self._account, call, timeouts)

    def _address(self, base_url: str) -> str:
        """The address that paths are added to, of what users write."""
        return base_url

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """What a status other than 2xx means."""
        return error_from_response(self.name, status, headers, body, setting=self._vendor.key_setting)

    def _bad_response(self, what: str) -> UpstreamError:
        """The exception for an answer without the shape that is documented; `what` is for the log."""
        return UpstreamError(f"{self.name} sent something that is not an answer.", provider=self.name, log=what)

    def _list_models(
        self,
        call: CallContext,
        path: str,
        models: Callable[[Any], list[ListedModel]],
        next_page: Callable[[Any], str],
    ) -> list[ListedModel]:
        """The `models` of each page of a list; `next_page` is what the path of the page after it has besides, "" after
        the last one. Raises as `models` does.
        """
        found: list[ListedModel] = []
        added = ""
        for _ in range(MOST_PAGES):
            page = request_json(self._account, "GET", path + added, b"", call, Timeouts(), self._failure)
            try:
                found += models(page)
                added = next_page(page)
            except BAD_SHAPE as error:
                raise self._bad_response(f"a list of models without {error}") from error
            if not added:
                break
        return found
