"""How all learners adapt on `tabular`: python experiments/adapt_tabular.py [--seeds N] [--tasks N] [--quick]."""

import tyro
from common import Options, adapt

if __name__ == "__main__":
    adapt("tabular", tyro.cli(Options, description=Options.__doc__))
