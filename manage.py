#!/usr/bin/env python
"""Django's command line for Gyoza."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gyoza_site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as exc:
        if "--traceback" in sys.argv:
            raise
        # A setting that can't be used. The message has its name; sixty lines of traceback would hide it.
        sys.exit(f"Gyoza can't start. {exc}")


if __name__ == "__main__":
    main()
