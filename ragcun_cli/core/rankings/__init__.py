"""What rankings are worth: metrics, significance, calibration, hubs."""
