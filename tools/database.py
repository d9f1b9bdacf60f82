"""The version of the database of usage (DATABASE_URL, or the file in DATA_DIR).

python -m tools.database                    says which it has, and which this program works with
python -m tools.database upgrade            brings it to that one, as each start does
python -m tools.database downgrade 0001     takes later changes back; `base` takes all, with what the tables hold
"""

import sys

from config import ROOT, SettingError, Settings
from storage.database import open_database
from storage.migrations import REVISIONS


def main(arguments: list[str]) -> str | None:
    """Run a command; returns the error's text, None if it succeeded."""
    try:
        settings = Settings.load()
        database = open_database(settings.database_url, ROOT / settings.data_dir)
    except (SettingError, ValueError) as error:
        return str(error)
    match arguments:
        case []:
            pass
        case ["upgrade"]:
            down, revision = False, "head"
        case ["downgrade", revision] if revision in (*REVISIONS, "base"):
            down = True
        case _:
            return (__doc__ or "") + f"\nVersions: base, {', '.join(REVISIONS)}"
    try:
        if arguments:
            database.migrate(revision, down=down)
        version = database.version()
    except database.failures as error:
        return f"{database.where} cannot be used: {getattr(error, 'orig', None) or error}"
    sys.stdout.write(f"{database.where} has version {version or 'base'}; this program works with {REVISIONS[-1]}.\n")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
