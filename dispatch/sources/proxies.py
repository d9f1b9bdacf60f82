"""HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl reads them: lower case first.

https://everything.curl.dev/usingcurl/proxies/env.html. Unlike curl, this machine is always reached directly.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from dispatch.sources.addresses import is_loopback
from providers.transport.proxy import FORMS, Proxy


def variable_for(url: str, variables: Mapping[str, str]) -> str:
    """The variable that names the proxy for an address; "" if the address is reached directly."""
    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    name = next((name for name in names if variables.get(name)), "")
    listed = (variables.get("no_proxy") or variables.get("NO_PROXY") or "").lower().replace(",", " ").split()
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    direct = is_loopback(host) or any(_covers(each, host, port) for each in listed)
    return "" if direct else name


def proxy_for(url: str, variables: Mapping[str, str]) -> str:
    """The URL of the proxy for an address; "" for none. Raises ValueError for an unknown form."""
    name = variable_for(url, variables)
    if not name:
        return ""
    proxy = variables[name] if "://" in variables[name] else f"http://{variables[name]}"
    try:
        Proxy.parse(proxy)
    except ValueError:
        raise ValueError(f"{name} is (not shown), which cannot be used. {FORMS}") from None
    return proxy


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY matches a host: a name with subdomains, `name:port`, an address, a network, `*`."""
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    domain = entry.removesuffix(f":{port}").strip("[]").lstrip("*.")
    return entry == "*" or host == domain or (bool(domain) and host.endswith(f".{domain}"))
