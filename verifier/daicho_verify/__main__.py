"""`python -m daicho_verify`: the same program as the console script `daicho-verify`."""

import sys

from daicho_verify.cli import main

sys.exit(main())
