"""Collect training rows for a pair: the intern's signals and correctness at every level, in parallel; resumable.

    python scripts/collect_progressive.py --mentor deepseek-32b --mentor-type local --mentor-gpus 0,1,2,3 \
        --intern deepseek-7b --intern-gpus 4,5,6,7 --parallel --num-workers 4 \
        --dataset math --split train --limit 1000 --out collected

For running servers: --mentor-endpoint and --intern-endpoint, one URL or several with commas. The same command
continues where it stopped. Then: tandem train collected. The same as `tandem collect`, whose --help has the rest.
"""

from __future__ import annotations

import sys

from tandem.cli import main

if __name__ == "__main__":
    main(["collect", *sys.argv[1:]])
