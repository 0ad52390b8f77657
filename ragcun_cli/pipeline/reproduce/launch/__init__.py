"""The runs of a plan as commands of their own, on the GPUs of this machine or on a cluster."""
