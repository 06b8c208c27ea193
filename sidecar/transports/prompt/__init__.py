# SPDX-License-Identifier: Apache-2.0
"""
The pages of the browser prompt: signing in, answering a challenge, and a person's own devices.

Every page is made here and works as a form; the script only fills in what a security key says. The modules:
``address`` (our own address and those that lead back), ``visits`` (a request, read and checked), ``replies`` (what a
view gives), ``door`` (from one to the other), ``guard`` (what holds for every answer), and the views.
"""
