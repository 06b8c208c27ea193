# SPDX-License-Identifier: Apache-2.0
"""
Spellings of paths that programs were known to read in more than one way.

Each case says where it is known from, and what the reader makes of it: the segments, or None where it refuses. Under an
option that a case does not name, it makes the same of it as without one.

Sources in short: OWASP is the Web Security Testing Guide and its cheat sheets; Tsai 2018 is Orange Tsai, "Breaking
Parser Logic! Take Your Path Normalization Off and Pop 0days Out", Black Hat USA 2018; Tsai 2017 is "A New Era of
SSRF", Black Hat USA 2017; Tsai 2024 is "Confusion Attacks", Black Hat USA 2024; ``opa-envoy`` is the plugin of Open
Policy Agent.
"""

from __future__ import annotations

from typing import NamedTuple

Segments = tuple[str, ...]


class PathCase(NamedTuple):
    """
    One spelling.

    Attributes:
        sent: The request target, byte for byte.
        source: Where it is known from.
        strict: What is read without options; None: it is refused. The other fields are each of one lenient option.
    """

    sent: bytes
    source: str
    strict: Segments | None
    encoded_slashes: Segments | str | None = ""
    double_slashes: Segments | str | None = ""
    parameters: Segments | str | None = ""
    trailing_slash: Segments | str | None = ""


ADMIN = ("admin", "x")

CASES: tuple[PathCase, ...] = (
    # Good ones, so that the others mean something.
    PathCase(b"/admin/x", "plain", ADMIN),
    PathCase(b"/", "plain", ("",)),
    PathCase(b"/admin/x?y=1", "plain", ADMIN),
    PathCase(b"/admin/", "plain", ("admin", ""), trailing_slash=("admin",)),
    PathCase(b"/%61dmin/x", "OWASP, encoded letters: one decoding", ADMIN),
    PathCase(b"/%61%64%6D%69%6e/x", "OWASP, encoded letters, case of escapes mixed", ADMIN),
    PathCase("/café/x".encode(), "raw UTF-8", ("café", "x")),
    PathCase(b"/na%c3%AFve/x", "encoded UTF-8, case of escapes mixed", ("naïve", "x")),
    PathCase(b"/a%20b", "an encoded space", ("a b",)),
    PathCase(b"/a+b", "a plus is a plus in a path", ("a+b",)),
    # Several slashes.
    PathCase(b"//admin/x", "opa-envoy 58c44d4e: a URL parser took it for an authority", None, double_slashes=ADMIN),
    PathCase(b"///admin/x", "opa-envoy 58c44d4e", None, double_slashes=ADMIN),
    PathCase(b"/admin//x", "CVE-2021-31920 (Istio): rules on paths and several slashes", None, double_slashes=ADMIN),
    PathCase(b"/admin/x//", "CVE-2021-31920", None, double_slashes=("admin", "x", "")),
    PathCase(b"//", "CVE-2021-31920", None, double_slashes=("",)),
    PathCase(
        b"//host.example/admin/x",
        "RFC 3986, section 4.2: a network-path reference",
        None,
        double_slashes=("host.example", "admin", "x"),
    ),
    PathCase(
        b"//user@host.example:80/x",
        "RFC 3986, section 3.2: an authority",
        None,
        double_slashes=("user@host.example:80", "x"),
    ),
    # Dots.
    PathCase(b"/public/../admin/x", "CVE-2019-9901 (Envoy): paths that are not normalized", None),
    PathCase(b"/./admin/x", "CVE-2010-3863 (Shiro)", None),
    PathCase(b"/admin/./x", "OWASP, path traversal", None),
    PathCase(b"/admin/x/.", "OWASP, path traversal", None),
    PathCase(b"/admin/x/..", "OWASP, path traversal", None),
    PathCase(b"/..", "OWASP, path traversal", None),
    PathCase(b"/../admin/x", "OWASP, path traversal", None),
    PathCase(b"/%2e%2e/admin/x", "OWASP, path traversal", None),
    PathCase(b"/public/%2E%2e/admin/x", "OWASP, path traversal, case of escapes mixed", None),
    PathCase(b"/public/.%2e/admin/x", "CVE-2021-41773 (Apache)", None),
    PathCase(b"/public/%2e./admin/x", "CVE-2021-41773 (Apache)", None),
    PathCase(b"/public/%%32%65%%32%65/admin/x", "CVE-2021-42013 (Apache)", None),
    PathCase(b"/%2e/admin/x", "CVE-2021-28164 (Jetty), CVE-2020-17510 (Shiro)", None),
    PathCase(b"/.%00/admin/x", "CVE-2021-34429 (Jetty)", None),
    PathCase(b"/%u002e/admin/x", "CVE-2021-34429 (Jetty)", None),
    PathCase(b"/.../admin/x", "three dots are a name", ("...", "admin", "x")),
    PathCase(b"/..admin/x", "dots in front of a name", ("..admin", "x")),
    PathCase(b"/admin../x", "Tsai 2018, nginx off by a slash: a name to us", ("admin..", "x")),
    PathCase(b"/admin./x", "OWASP, trailing dot (Windows): a name to us", ("admin.", "x")),
    PathCase(b"/admin%2e/x", "OWASP, trailing dot (Windows), encoded", ("admin.", "x")),
    # Encoded slashes.
    PathCase(b"/public%2f..%2fadmin/x", "CVE-2021-29492 (Envoy), CVE-2007-0450 (Tomcat)", None),
    PathCase(b"/public/..%2fadmin/x", "CVE-2021-29492 (Envoy)", None),
    PathCase(b"/..%2Fadmin/x", "CVE-2021-29492 (Envoy)", None),
    PathCase(
        b"/admin%2fx", "CVE-2021-31920 (Istio), CVE-2016-9879 (Spring Security)", None, encoded_slashes=("admin/x",)
    ),
    PathCase(b"/%2fadmin/x", "CVE-2021-29492 (Envoy)", None, encoded_slashes=("/admin", "x")),
    PathCase(b"/a/%2f", "CVE-2021-29492 (Envoy)", None, encoded_slashes=("a", "/")),
    PathCase(b"/%2F%2e%2e%2Fadmin", "CVE-2021-29492 (Envoy)", None),
    PathCase(b"/a%2F.", "dots behind an encoded slash", None),
    PathCase(b"/a%2F..b", "a name behind an encoded slash", None, encoded_slashes=("a/..b",)),
    # Backslashes.
    PathCase(b"/\\admin/x", "CVE-2007-0450 (Tomcat), Tsai 2018", None),
    PathCase(b"\\admin/x", "Tsai 2018", None),
    PathCase(b"/public\\..\\admin/x", "CVE-2018-1271 (Spring)", None),
    PathCase(b"/public/..%5cadmin/x", "CVE-2018-1271 (Spring), CVE-2021-31920 (Istio)", None),
    PathCase(b"/%5Cadmin/x", "CVE-2024-38816 (Spring), CVE-2021-29492 (Envoy)", None),
    # Path parameters.
    PathCase(b"/public/..;/admin/x", "Tsai 2018 (Tomcat), CVE-2020-5902 (BIG-IP)", None),
    PathCase(b"/public/%2e%2e;/admin/x", "Tsai 2018 (Tomcat)", None),
    PathCase(b"/public/..;x=y/admin/x", "Tsai 2018 (Tomcat)", None),
    PathCase(b"/public/..%3b/admin/x", "Tsai 2018 (Tomcat), encoded", None),
    PathCase(b"/.;/admin/x", "CVE-2020-1957 (Shiro)", None),
    PathCase(b"/;/admin/x", "CVE-2020-11989 (Shiro)", None, parameters=(";", "admin", "x")),
    PathCase(b"/admin;/x", "CVE-2018-1199 (Spring Security)", None, parameters=("admin;", "x")),
    PathCase(b"/admin;a=b/x", "CVE-2018-1199 (Spring Security)", None, parameters=("admin;a=b", "x")),
    PathCase(b"/admin/%3bx", "CVE-2020-13933 (Shiro)", None, parameters=("admin", ";x")),
    PathCase(b"/admin/x;", "CVE-2018-1199 (Spring Security)", None, parameters=("admin", "x;")),
    # Decoded twice.
    PathCase(b"/public/%252e%252e/admin/x", "OWASP, double encoding", None),
    PathCase(b"/public/..%252fadmin/x", "CVE-2020-11989 (Shiro)", None),
    PathCase(b"/public/..%255cadmin/x", "CVE-2001-0333 (IIS)", None),
    PathCase(b"/public/%25%32%65%25%32%65/admin/x", "OWASP, double encoding, every character", None),
    PathCase(b"/public/%25252e/admin/x", "OWASP, triple encoding", None),
    PathCase(b"/%2561dmin/x", "OWASP, double encoding of a letter", None),
    PathCase(b"/a%25c0%25ae/x", "OWASP, double encoding of an overlong dot", None),
    PathCase(b"/admin%2500/x", "OWASP, double encoding of NUL", None),
    PathCase(b"/admin%253b/x", "OWASP, double encoding of `;`", None),
    PathCase(b"/100%25/x", "a percent sign", ("100%", "x")),
    PathCase(b"/100%25zz/x", "a percent sign and letters", ("100%zz", "x")),
    # Broken escapes.
    PathCase(b"/admin%/x", "OWASP, malformed escapes", None),
    PathCase(b"/admin/x%", "OWASP, malformed escapes", None),
    PathCase(b"/admin/x%2", "OWASP, malformed escapes", None),
    PathCase(b"/admin%2/x", "OWASP, malformed escapes", None),
    PathCase(b"/admin%2gx", "OWASP, malformed escapes", None),
    PathCase(b"/admin%2\xb5x", "OWASP, malformed escapes", None),
    PathCase(b"/admin%u2215x", "IIS: %u escapes", None),
    # UTF-8.
    PathCase(b"/public/%c0%ae%c0%ae/admin/x", "CVE-2008-2938 (Tomcat): overlong dots", None),
    PathCase(b"/public/..%c0%afadmin/x", "CVE-2000-0884 (IIS): overlong slash", None),
    PathCase(b"/public/..%c1%9cadmin/x", "CVE-2000-0884 (IIS): overlong backslash", None),
    PathCase(b"/public%e0%80%afadmin", "overlong slash, three bytes", None),
    PathCase(b"/public%f0%80%80%afadmin", "overlong slash, four bytes", None),
    PathCase(b"/public/\xc0\xae\xc0\xae/admin/x", "CVE-2008-2938 (Tomcat), raw", None),
    PathCase(b"/%ff/x", "RFC 3629: no such byte", None),
    PathCase(b"/na%c3/x", "RFC 3629: a sequence that is cut", None),
    PathCase(b"/na%c3/%af", "RFC 3629: a sequence with a slash inside", None),
    PathCase(b"/%ed%a0%80/x", "RFC 3629: half of a surrogate pair", None),
    PathCase(b"/%f4%90%80%80/x", "RFC 3629: above U+10FFFF", None),
    PathCase(
        "/\uff0e\uff0e/admin/x".encode(), "Tsai 2017, full-width dots: names to us", ("\uff0e\uff0e", "admin", "x")
    ),
    PathCase(b"/%ef%bc%8e%ef%bc%8e/admin/x", "Tsai 2017, full-width dots, encoded", ("\uff0e\uff0e", "admin", "x")),
    PathCase("/public\uff0fadmin".encode(), "Tsai 2017, a full-width slash: a letter to us", ("public\uff0fadmin",)),
    PathCase(
        "/\uff21\uff24\uff2d\uff29\uff2e/x".encode(), "full-width letters", ("\uff21\uff24\uff2d\uff29\uff2e", "x")
    ),
    PathCase("/adm\u0131n/x".encode(), "a dotless i, which some make an i of", ("adm\u0131n", "x")),
    PathCase("/admin\u0303/x".encode(), "a letter with a combining mark", ("admin\u0303", "x")),
    # Control characters.
    PathCase(b"/admin%00/x", "OWASP, embedding null code", None),
    PathCase(b"/admin/x%00.css", "OWASP, embedding null code", None),
    PathCase(b"/admin\x00/x", "CVE-2019-9900 (Envoy)", None),
    PathCase(b"/admin%0a/x", "CVE-2022-22978 (Spring Security), CVE-2022-32532 (Shiro)", None),
    PathCase(b"/admin%0d/x", "CVE-2022-22978 (Spring Security)", None),
    PathCase(b"/admin/x%0d%0aHost:%20y", "OWASP, HTTP splitting", None),
    PathCase(b"/admin\r\n/x", "OWASP, HTTP splitting", None),
    PathCase(b"/admin%09/x", "OWASP, a tab", None),
    PathCase(b"/admin\t/x", "OWASP, a tab", None),
    PathCase(b"/admin%7f/x", "DEL", None),
    PathCase(b"/admin%1f/x", "a unit separator", None),
    PathCase(b"/admin /x", "RFC 9112, section 3: no space in a request line", None),
    PathCase(b"/admin/%20", "CVE-2020-17523 (Shiro): a name to us", ("admin", " ")),
    PathCase(b"/admin%20/x", "OWASP, trailing space (Windows): a name to us", ("admin ", "x")),
    PathCase(b"/%20admin/x", "OWASP, leading space", (" admin", "x")),
    # Question marks and fragments.
    PathCase(b"/admin/x?", "an empty query", ADMIN),
    PathCase(b"/?/../admin/x", "what follows the first `?` is the query", ("",)),
    PathCase(b"/public?/../../admin/x", "what follows the first `?` is the query", ("public",)),
    PathCase(b"/admin/x?a=b?c=d", "a second `?` is part of the query", ADMIN),
    PathCase(b"/admin/x?a=%zz", "escapes of a query are read where its values are", ADMIN),
    PathCase(b"/admin%3f/x", "Tsai 2024, CVE-2024-38474 (Apache): a name to us", ("admin?", "x")),
    PathCase(b"/public%3fx/admin", "Tsai 2024 (Apache): a name to us", ("public?x", "admin")),
    PathCase(b"?/admin/x", "no path", None),
    PathCase(b"/admin/x#y", "CVE-2021-32779 (Envoy), CVE-2021-39156 (Istio): fragments", None),
    PathCase(b"/public#/../admin/x", "CVE-2021-32779 (Envoy)", None),
    PathCase(b"/admin/x?y#z", "CVE-2021-32779 (Envoy), behind a query", None),
    PathCase(b"/admin%23/x", "an encoded `#` is a name", ("admin#", "x")),
    PathCase(b"/admin/x?a b", "RFC 9112, section 3: no space in a request line", None),
    PathCase(b"/admin/x?a\x01", "a control character in a query", None),
    # Other forms of targets.
    PathCase(b"http://shop.example.com/admin/x", "RFC 9112, section 3.2.2: absolute form", None),
    PathCase(b"https:/admin/x", "RFC 9112, section 3.2.2: absolute form, broken", None),
    PathCase(b"shop.example.com:443", "RFC 9112, section 3.2.3: authority form", None),
    PathCase(b"*", "RFC 9112, section 3.2.4: asterisk form", None),
    PathCase(b"/*", "a star is a name", ("*",)),
    PathCase(b"admin/x", "no slash in front", None),
    PathCase(b"@admin/x", "Tsai 2017: an authority behind it", None),
    PathCase(b"/@host.example/x", "Tsai 2017: a name to us", ("@host.example", "x")),
    PathCase(b"", "nothing", None),
    # Names that only some systems read otherwise.
    PathCase(b"/ADMIN/x", "case", ("ADMIN", "x")),
    PathCase(
        b"/(S(x))/admin/x", "CVE-2023-36899 (ASP.NET, sessions without cookies): a name to us", ("(S(x))", "admin", "x")
    ),
    PathCase(b"/ADMIN~1/x", "Windows, short names: a name to us", ("ADMIN~1", "x")),
    PathCase(b"/admin::$DATA/x", "CVE-1999-0278 (IIS): a name to us", ("admin::$DATA", "x")),
    PathCase(b"/admin/x.css", "web cache deception: a name to us", ("admin", "x.css")),
    # Limits.
    PathCase(b"/a" * 64, "64 segments", ("a",) * 64),
    PathCase(b"/a" * 65, "65 segments", None),
    PathCase(b"/a" * 64 + b"/", "65 segments, the last one empty", None),
    PathCase(b"/" + b"a" * 8191, "8192 bytes", ("a" * 8191,)),
    PathCase(b"/" + b"a" * 8192, "8193 bytes", None),
    PathCase(b"/a?" + b"b" * 8190, "8193 bytes with the query", None),
    PathCase(b"/" * 8192, "8192 slashes", None, double_slashes=("",)),
)
