"""Entry point of the kernel process, and of ``python -m heliostat_kernel install``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the kernel, or install its kernelspec when the first argument is ``install``."""
    # Files of the user's working directory must not shadow packages while the kernel loads;
    # the shell puts the directory back before the first cell.
    if sys.path and (sys.path[0] == "" or Path(sys.path[0]) == Path.cwd()):
        del sys.path[0]
    if sys.argv[1:2] == ["install"]:
        from heliostat_kernel.install import main as install

        sys.exit(install(sys.argv[2:]))
    from heliostat_kernel.kernel import HeliostatKernelApp

    HeliostatKernelApp.launch_instance()


if __name__ == "__main__":
    main()
