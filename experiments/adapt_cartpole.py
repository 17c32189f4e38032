"""How all learners adapt on `cartpole`: python experiments/adapt_cartpole.py [--seeds N] [--tasks N] [--quick]."""

import functools

from command_line import start
from common import Options, adapt

if __name__ == "__main__":
    start(functools.partial(adapt, "cartpole"), Options, Options.__doc__)
