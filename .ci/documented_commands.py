"""Run the commands of pages as they stand: every ```bash block that follows a line `<!-- ci -->`, in order.

    python .ci/documented_commands.py README.md docs/index.md

The blocks run from the repository root, which must be a clean checkout; the first failing block stops with its exit
code.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path


def main(pages: list[str]) -> int:
    for page in pages:
        blocks = re.findall(r"<!-- ci -->\n```bash\n(.*?)```", Path(page).read_text(), flags=re.DOTALL)
        if not blocks:
            print(f"{page} has no block marked <!-- ci -->", file=sys.stderr)
            return 2
        for block in blocks:
            print(block, flush=True)
            start = time.monotonic()
            script = "set -euo pipefail\n" + block
            code = subprocess.run(["bash", "-c", script], check=False).returncode
            print(f"-- exit {code} after {time.monotonic() - start:.0f} s", flush=True)
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
