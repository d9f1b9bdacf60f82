"""Maps exceptions of sockets, TLS and the HTTP parser to exceptions of core/errors.py."""

import ssl

from core.errors import UpstreamDown, UpstreamError, UpstreamTimeout
from providers.transport.connection import PrematureClose, ProtocolError
from providers.transport.proxy import Proxy


def upstream_error(error: Exception, name: str, status: int | None = None, proxy: Proxy | None = None) -> UpstreamError:
    """The UpstreamError for an OSError, PrematureClose or ProtocolError; the detail goes to the log."""
    detail = f"{type(error).__name__}: {error}" + (f" (through {proxy})" if proxy else "")
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamError(f"{name} shows a certificate that we do not trust.", provider=name, log=detail)
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{name} did not answer in time.", provider=name, upstream_status=status, log=detail)
    if isinstance(error, ProtocolError):
        return UpstreamDown(
            f"{name} sent something that is not an answer.", provider=name, upstream_status=status, log=detail
        )
    if isinstance(error, PrematureClose) or status is not None:
        return UpstreamDown(f"{name} broke off its answer.", provider=name, upstream_status=status, log=detail)
    return UpstreamDown(f"{name} cannot be reached{' through its proxy' if proxy else ''}.", provider=name, log=detail)
