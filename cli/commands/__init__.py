"""One file a command of `daicho`."""
