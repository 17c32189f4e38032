"""How all learners adapt on `cartpole`: python experiments/adapt_cartpole.py [--seeds N] [--tasks N] [--quick]."""

import tyro
from common import Options, adapt

if __name__ == "__main__":
    adapt("cartpole", tyro.cli(Options, description=Options.__doc__))
