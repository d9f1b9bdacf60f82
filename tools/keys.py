"""Keys for callers.

python -m tools.keys new NAME     makes one, and the line for `keys:` of models.yaml
"""

import argparse
import re
import sys

from core.api_keys import new_key

NAME = re.compile(r"[!#-\[\]-~]{1,200}")


def main(arguments: list[str] | None = None) -> int:
    """Make a key, and show it once: nothing keeps it."""
    parser = argparse.ArgumentParser(prog="python -m tools.keys", description="Keys for callers.")
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("new", help="make a key")
    new.add_argument("name", type=_name, help="whose it is; shown in logs")
    key, hashed = new_key()
    name = parser.parse_args(arguments).name
    sys.stdout.write(
        f"The key of {name}, which is shown this once:\n\n    {key}\n\n"
        f'Its line below `keys:` in models.yaml:\n\n  - {{name: "{name}", key: "{hashed}"}}\n'
    )
    return 0


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name has visible ASCII characters, without spaces, quotes and backslashes")
    return text


if __name__ == "__main__":
    sys.exit(main())
