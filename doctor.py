"""What is configured, what can be reached, what is wrong, and which setting or line mends it.

    python doctor.py                a table, then what to do
    python doctor.py --json         {"ok": bool, "findings": [{"what", "state", "detail", "mend", "latency_ms"}]}
    python doctor.py --timeout 2    seconds that each provider has to answer

Every configured provider is asked once for its list of models, all at the same time; none is asked to chat. An agent
gets a signed request that it must refuse, which costs nothing. Exit codes: 0 all is fine (warnings allowed), 1 what is
configured is wrong, 2 the settings cannot be read. No key is shown.
"""

import sys

from tools.doctor.command import main
from tools.doctor.examine import examine
from tools.doctor.finding import Finding

__all__ = ["Finding", "examine"]

if __name__ == "__main__":
    sys.exit(main(__doc__))
