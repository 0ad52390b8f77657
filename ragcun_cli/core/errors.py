"""What core refuses because of a person's settings or data; any other error of it is a bug."""


class SettingsError(ValueError):
    """A setting, or the size of the data, with which a training cannot be."""
