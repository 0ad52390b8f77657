"""The processes, devices and libraries of this machine, and how stages speak."""
