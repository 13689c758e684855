"""python -m l2d_utils.own TABLE --price-weight 0.3 --out folder"""

import sys

from l2d_utils.own.command import main

sys.exit(main())
