"""Measures of speed and size, each with a floor taken in the same run. Never tests: see `script/bench`."""
