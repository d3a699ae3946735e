"""What all tests share."""

from hypothesis import settings

# A deadline in wall-clock time fails on a busy machine.
settings.register_profile("kubedistill", deadline=None)
settings.load_profile("kubedistill")
