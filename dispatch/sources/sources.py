"""All sources of providers and models: the environment, models.yaml, a list by HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.api_keys import ApiKey
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import SourceContents
from dispatch.sources import file_keys, models_file
from dispatch.sources.environment import from_environment
from dispatch.sources.file_watcher import FileWatcher
from dispatch.sources.last_good import LastGood
from dispatch.sources.proxies import proxy_for

if TYPE_CHECKING:
    from dispatch.sources.model_list import ModelList

log = getLogger("thinkline.sources")

LAST_GOOD: dict[Path, LastGood] = {}
"""The last valid text of the models file. A new worker is a child of a process that has read it, so a worker that dies
can be replaced while the file is invalid.
"""


@dataclass(kw_only=True)
class Sources:
    """The sources' contents at the start (`listings`), and their changes (`follow`).

    `upstreams` and `variables` are the environment's, `clouds` the settings for OCI and AWS, `default` and `aliases`
    PROVIDER_NAME and MODEL_ALIASES. A `models_file` that is not `required` may be missing. The list at `list_url` (""
    for none) is loaded every `list_refresh` seconds, and its last good answer is kept in `folder`. `keys` are the
    callers' keys of the settings, which the file may not repeat.
    """

    upstreams: Mapping[str, str]
    variables: Mapping[str, str] = field(repr=False)
    clouds: Mapping[str, Any]
    demo_pace_ms: float
    default: str = ""
    aliases: tuple[str, ...] = ()
    models_file: Path
    required: bool
    list_url: str
    list_token: str = field(repr=False)
    list_refresh: float
    folder: Path
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    _on_keys: Callable[[Sequence[ApiKey]], None] | None = field(default=None, init=False, repr=False)
    _catalogue: Catalogue | None = field(default=None, init=False, repr=False)

    def listings(self) -> dict[str, SourceContents]:
        """The contents of each source. Uses no network. Raises ValueError with the setting, or file and line."""
        contents = {"environment": self._environment(), "file": SourceContents()}
        kept, is_wanted = LAST_GOOD.get(self.models_file), self.required or self.models_file.exists()
        if kept is not None and (is_wanted or kept.text()):
            contents["file"] = self._file_or_last_good(kept, contents)
        elif is_wanted:
            contents["file"] = self._file()
        else:
            self._keep(b"")  # before any fork, so that a worker that reads a first one shares it
        if self.list_url:
            contents["list"] = self._model_list.load_kept()
        return contents

    def follow(self, catalogue: Catalogue, on_keys: Callable[[Sequence[ApiKey]], None] | None = None) -> None:
        """Watch the sources in threads of their own until the process ends, and pass changes to the catalogue, and the
        file's keys for callers to `on_keys`.
        """
        self._on_keys = on_keys
        FileWatcher(self.models_file, lambda: self._take_over(catalogue)).start()
        if self.list_url:
            self._catalogue = catalogue
            self._model_list.start()

    def _file_or_last_good(self, kept: LastGood, others: Mapping[str, SourceContents]) -> SourceContents:
        """The file, or its last valid text if it has become invalid since. Raises ValueError."""
        try:
            last = self._parse(kept.text())
            catalogue = Catalogue({**others, "file": last}, default=self.default)
        except ValueError:  # the settings have changed, and the old text does not fit them
            return self._file()
        try:
            self._take_over(catalogue)
        except ValueError as error:
            log.error("%s; the last good one stays in use", str(error).rstrip("."))  # noqa: TRY400 - the message suffices
        return catalogue.contents("file")

    def _take_over(self, catalogue: Catalogue) -> None:
        """Pass the file's contents to the catalogue. Raises ValueError, and changes nothing, if they cannot be used."""
        text = models_file.text(self.models_file)
        listing, last = self._parse(text), catalogue.contents("file")
        lost_models = (last.rows and not listing.rows) or (last.entries and not listing.entries + listing.rows)
        if lost_models or (last.keys and not listing.keys):  # without keys, every caller might be served
            log.warning(
                "%s has no %s any more, as if emptied by mistake; the last good one stays in use until a restart",
                self.models_file,
                "model" if lost_models else "key",
            )
            return
        try:
            catalogue.replace("file", listing)
        except ValueError as error:
            raise ValueError(f"{self.models_file}: {error}") from None
        if self._on_keys:
            self._on_keys(listing.keys)
        self._keep(text)
        before, now = ({row.name for row in each.rows} for each in (last, listing))
        facts = {"file": str(self.models_file), "added": sorted(now - before), "removed": sorted(before - now)}
        log.info("the models file is in use", extra={"facts": facts})

    def _file(self) -> SourceContents:
        """The file as it is. Raises CatalogueError."""
        text = models_file.text(self.models_file)
        listing = self._parse(text)
        self._keep(text)
        return listing

    def _parse(self, text: bytes) -> SourceContents:
        known = [entry.name for entry in self._environment().entries]
        listing = models_file.parse(text, self.models_file, self.variables, known, self.clouds)
        file_keys.check_apart(listing.keys, self.keys, self.models_file)
        return listing

    def _keep(self, text: bytes) -> None:
        if self.models_file in LAST_GOOD:
            LAST_GOOD[self.models_file].put(text)
        else:
            LAST_GOOD[self.models_file] = LastGood(text)

    def _environment(self) -> SourceContents:
        return from_environment(
            self.upstreams, demo_pace_ms=self.demo_pace_ms, clouds=self.clouds, aliases=self.aliases
        )

    def _replace_list(self, listing: SourceContents) -> None:
        if self._catalogue is not None:
            self._catalogue.replace("list", listing)

    @cached_property
    def _model_list(self) -> "ModelList":
        from dispatch.sources.model_list import ModelList  # noqa: PLC0415 - loads requests, which others do without

        return ModelList(
            self.list_url,
            self.list_token,
            refresh=self.list_refresh,
            folder=self.folder,
            on_change=self._replace_list,
            proxy=proxy_for(self.list_url, self.variables),
        )
