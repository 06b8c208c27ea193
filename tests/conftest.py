# SPDX-License-Identifier: Apache-2.0
"""
Settings that every test shares.

Hypothesis runs the same examples each time unless ``--hypothesis-profile=long`` asks for many and new ones.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    max_examples=20_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
