"""What a view's `scope` may say beside read, write, delete and admin (joined by `+` when it needs several)."""

from __future__ import annotations

PUBLIC = "public"  # no key is asked for, a wrong one is not looked at
ANY = "any"  # any valid key
