"""The doctor: would this corpus spoil an experiment? Measured clip by clip, told as findings, shown as a page."""
