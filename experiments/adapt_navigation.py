"""How all learners adapt on `navigation`: python experiments/adapt_navigation.py [--seeds N] [--tasks N] [--quick]."""

import functools

from command_line import start
from common import Options, adapt

if __name__ == "__main__":
    start(functools.partial(adapt, "navigation"), Options, Options.__doc__)
