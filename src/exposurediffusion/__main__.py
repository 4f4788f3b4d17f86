"""`python -m exposurediffusion` is the command `expose`."""

import sys

from exposurediffusion.apps.cli import main

sys.exit(main())
