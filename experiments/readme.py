"""The README's tables as the experiments wrote them: python experiments/readme.py [--quick].

A table stands between <!-- NAME.md --> and <!-- end -->, NAME.md being a file in results.
"""

import pathlib
import re

import tyro
from kept import RESULTS

README = pathlib.Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"<!-- (\S+\.md) -->\n.*?<!-- end -->", re.DOTALL)


def filled(text: str) -> str:
    """`text` with each table as it now is."""
    return TABLE.sub(lambda found: f"<!-- {found[1]} -->\n\n{(RESULTS / found[1]).read_text()}\n<!-- end -->", text)


def main(quick: bool = False) -> None:
    """Bring the README up to date, and name results that it has no place for; --quick writes nothing."""
    text = README.read_text()
    new, placed = filled(text), set(TABLE.findall(text))
    if not quick:
        README.write_text(new)
    print(f"{len(placed)} tables, {'brought up to date' if new != text else 'as they were'}")
    for path in sorted(RESULTS.glob("*.md")):
        if path.name not in placed:
            print(f"README.md has no place for {path.name}; put <!-- {path.name} --> and <!-- end --> where it belongs.")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
