# SPDX-License-Identifier: Apache-2.0
"""
A slow and plain evaluator: what the compiled core has to agree with.

It reads the model as it stands and follows ``docs/semantics.md`` section by section:

==================  ====================================================================
``request``         section 1: is the request valid, who calls, whose resource it is
``layers``          section 2: which policies apply, the order of evaluation
``statements``      section 3: principal, action, resource and conditions of one statement
``conditions``      section 3: one line of a condition block
``patterns``        section 3: text with wildcards and variables
``context``         section 3: the context keys that the sidecar sets
``mfa``             section 4: would proving MFA help
``session``         section 5: what a session adds
``shadow``          section 7: what is tried before it is enforced
==================  ====================================================================

Nothing here is shared with ``sidecar.compile`` or ``sidecar.core``.
"""

from tests.oracle.shadow import decide

__all__ = ["decide"]
