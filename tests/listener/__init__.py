# SPDX-License-Identifier: Apache-2.0
"""The native data listener, frame by frame: in this process, on free ports, with peers that nobody here wrote."""
