"""The vendor of a provider in models.yaml, and the provider's deviations from it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dispatch.sources.consistency import Inconsistent
from providers.dialects import ANY_ROLE
from providers.vendors import VENDORS, Vendor


def vendor_named(name: str, given: Mapping[str, Any]) -> Vendor:
    """The vendor that is named, or that has the provider's name; else the user's own server. Raises Inconsistent."""
    known = {row.name: row for row in VENDORS}
    vendor = given.get("vendor", name)
    if vendor in known:
        return replace(known[vendor], name=name, prices=vendor)
    if "vendor" in given:
        raise Inconsistent(
            ("providers", name, "vendor"), f"there is no vendor {vendor!r}; there are {', '.join(known)}"
        )
    return Vendor(name=name, label=name, keyless=True)


def deviations(given: Mapping[str, Any], vendor: Vendor) -> dict[str, Any]:
    """The file's deviations from the vendor: the parameters that it refuses, and the keys that it wants back."""
    changes = {key: given[key] for key in ("names", "roles", "call_ids", "returned") if key in given}
    if "refuses" in given:
        changes["refuses"] = frozenset(given["refuses"])
    if "message_keys" in given:
        changes["message_keys"] = {ANY_ROLE: frozenset({"role", "content", *given["message_keys"]})}
    beside = {key: given[key] for key in ("frames", "strict", "usage", "embedding_batch") if key in given}
    if "responses" in given:
        beside["responses"] = "always" if given["responses"] else "never"
    if "lacks" in given:
        beside["lacks"] = frozenset(given["lacks"])
    return {**beside, "dialect": replace(vendor.dialect, **changes)}
