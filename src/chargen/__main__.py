"""The program `chargen`, and `python -m chargen <command>`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command and exit; say what to install if a package is missing that every command needs."""
    try:
        from chargen.cli.app import main as run
    except ImportError as error:
        from chargen.cli.packages import message_of_import

        message = message_of_import(error)
        if message is None:
            raise
        print(f"chargen: {message}", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
