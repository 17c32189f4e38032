"""How all learners adapt on `tabular`: python experiments/adapt_tabular.py [--seeds N] [--tasks N] [--quick]."""

import functools

from command_line import start
from common import Options, adapt

if __name__ == "__main__":
    start(functools.partial(adapt, "tabular"), Options, Options.__doc__)
