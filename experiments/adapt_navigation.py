"""How all learners adapt on `navigation`: python experiments/adapt_navigation.py [--seeds N] [--tasks N] [--quick]."""

import tyro
from common import Options, adapt

if __name__ == "__main__":
    adapt("navigation", tyro.cli(Options, description=Options.__doc__))
