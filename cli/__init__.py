"""The `daicho` command: settings and all wiring. May import everything; nothing imports it."""
