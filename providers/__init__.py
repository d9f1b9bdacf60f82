"""Builds providers. A vendor's module is imported only when a provider of its kind is configured (vendors.py)."""

from importlib import import_module
from typing import Any

from core.extras import missing_extra
from providers.base import Provider
from providers.vendors import PROVIDERS

PACKAGES = {"oci": ("oci", "oci"), "bedrock": ("aws", "botocore"), "bedrock-models": ("aws", "botocore")}
"""Kinds that need an optional dependency -> the extra, and its package."""


def missing_package(kind: str) -> str:
    """The package to install for a provider of a kind; "" if none is missing."""
    return missing_extra(*PACKAGES[kind]) if kind in PACKAGES else ""


def build(kind: str, options: dict[str, Any]) -> Provider:
    """A provider of a kind. Raises ValueError for options that it cannot be built from."""
    module, _, name = PROVIDERS[kind].partition(":")
    provider: Provider = getattr(import_module(module), name)(**options)
    return provider
