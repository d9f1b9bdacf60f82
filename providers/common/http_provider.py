"""The base of providers with one HTTP address and one key."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamError
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from providers.base import Provider
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import request_json
from providers.transport.status_errors import error_from_response
from providers.transport.warm_up import warm
from providers.vendors import Vendor

MOST_PAGES = 20
"""The most pages of a list of models, for an upstream that always names a next page."""


class HttpProvider(Provider):
    """A vendor of the table at one address. The arguments are the user's; `name` differs from the vendor's for a
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
        """Keep a connection to the upstream open."""
        warm(self._account, call, timeouts)

    def _address(self, base_url: str) -> str:
        """The address before the paths, from the configured one."""
        return base_url

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """The exception for a status other than 2xx."""
        return error_from_response(self.name, status, headers, body, setting=self._vendor.key_setting)

    def _bad_response(self, what: str) -> UpstreamError:
        """The exception for an answer without the documented shape; `what` is for the log."""
        return UpstreamError(f"{self.name} sent something that is not an answer.", provider=self.name, log=what)

    def _list_models(
        self,
        call: CallContext,
        path: str,
        models: Callable[[Any], list[ListedModel]],
        next_page: Callable[[Any], str],
    ) -> list[ListedModel]:
        """The `models` of all pages of a list. `next_page` returns the query of the page after one, "" after the last.
        Raises as `models` does.
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
