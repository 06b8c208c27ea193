# SPDX-License-Identifier: Apache-2.0
"""
What has to outlive the process: devices, counters, ceremonies, challenges, throttles, recovery codes, passwords,
revocations.

``engine`` opens SQLite or PostgreSQL, ``migrations`` brings its schema up to date, ``schema`` describes the tables. The
other modules hold what belongs together; every rule that must hold under concurrency is one statement there.
"""
