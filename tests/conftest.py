"""Settings of all tests."""

from hypothesis import settings

# These machines drift by a factor of two: a slow example is no failure.
settings.register_profile("zeromsg", deadline=None)
settings.load_profile("zeromsg")
