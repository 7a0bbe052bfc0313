"""What is attention: what is supported, plans, costs, core programs, the runtime sequence of a call."""
