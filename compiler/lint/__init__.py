"""npuc lint: what the exposed pipeline would get wrong in core programs, told from the schedule tables alone."""
