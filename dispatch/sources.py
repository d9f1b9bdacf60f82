"""Where the catalogue learns of providers and models: the environment, models.yaml, a list by HTTP (B2 to B4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch import models_file
from dispatch.catalogue import Catalogue
from dispatch.entries import Listing
from dispatch.environment import from_environment
from dispatch.follow import Follower

if TYPE_CHECKING:
    from dispatch.model_list import ModelList

log = getLogger("thinkline.sources")

LAST_GOOD: dict[Path, Listing] = {}
"""What the file said when it was last right. A new worker is a child of a process that has read it: while the file is
broken, a worker that dies can be replaced all the same.
"""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is told at the start (`listings`), and how it is kept up to date (`follow`).

    `upstreams` and `variables` are the environment's, `clouds` the settings for OCI and AWS; a `models_file` not
    `required` may be missing; the list at `list_url` ("" for none) is asked for every `list_refresh` seconds, and its
    last good answer kept in `folder`.
    """

    upstreams: Mapping[str, str]
    variables: Mapping[str, str] = field(repr=False)
    clouds: Mapping[str, Any]
    demo_pace_ms: float
    models_file: Path
    required: bool
    list_url: str
    list_token: str = field(repr=False)
    list_refresh: float
    folder: Path

    def listings(self) -> dict[str, Listing]:
        """What each source tells now. Asks nobody by network. Raises ValueError with the setting, or file and line."""
        told = {"environment": self._environment()}
        told["file"] = self._file_or_last_good() if self.required or self.models_file.exists() else Listing()
        if self.list_url:
            told["list"] = self._list(lambda _: None).load_kept()
        return told

    def follow(self, catalogue: Catalogue) -> None:
        """Tell the catalogue what changes, from threads of their own, until the process ends."""
        Follower(self.models_file, lambda: catalogue.replace("file", self._file())).start()
        if self.list_url:
            model_list = self._list(lambda listing: catalogue.replace("list", listing))
            model_list.load_kept()
            model_list.start()

    def _file_or_last_good(self) -> Listing:
        try:
            return self._file()
        except models_file.CatalogueError as error:
            if self.models_file not in LAST_GOOD:
                raise
            log.error("%s; the last good one stays in use", error)  # noqa: TRY400 - the message says it all
            return LAST_GOOD[self.models_file]

    def _file(self) -> Listing:
        known = [entry.name for entry in self._environment().entries]
        listing = LAST_GOOD[self.models_file] = models_file.read(self.models_file, self.variables, known, self.clouds)
        return listing

    def _environment(self) -> Listing:
        return from_environment(self.upstreams, demo_pace_ms=self.demo_pace_ms, clouds=self.clouds)

    def _list(self, on_change: Callable[[Listing], None]) -> "ModelList":
        from dispatch.model_list import ModelList  # noqa: PLC0415 - loads requests, which others do without

        return ModelList(
            self.list_url, self.list_token, refresh=self.list_refresh, folder=self.folder, on_change=on_change
        )
