# SPDX-License-Identifier: Apache-2.0
# Typed values out of the text of a request. Each reader says whether it could read.

# A number or a point in time: seconds + nanos / 10**9, nanos in [0, 10**9).
cdef struct Moment:
    int64_t seconds
    uint32_t nanos


cdef inline int moment_compare(const Moment *one, int64_t seconds, uint32_t nanos) noexcept nogil:
    if one.seconds != seconds:
        return -1 if one.seconds < seconds else 1
    if one.nanos != nanos:
        return -1 if one.nanos < nanos else 1
    return 0


cdef bint read_fraction(const uint8_t *data, uint32_t length, uint32_t *nanos) noexcept nogil:
    # Digits behind a point; those past the ninth must be zero.
    cdef uint32_t value = 0
    cdef uint32_t i
    if length == 0:
        return False
    for i in range(length):
        if data[i] < 48 or data[i] > 57:
            return False
        if i < 9:
            value = value * 10 + (data[i] - 48)
        elif data[i] != 48:
            return False
    for i in range(length, 9):
        value *= 10
    nanos[0] = value
    return True


cdef bint read_number(Slice text, Moment *out) noexcept nogil:
    # An integer or a decimal: a sign, up to 18 digits, a point and up to 9 digits.
    cdef uint32_t i = 0
    cdef uint32_t first
    cdef int64_t whole = 0
    cdef uint32_t nanos = 0
    cdef bint negative = False
    if text.len and (text.data[0] == 45 or text.data[0] == 43):
        negative = text.data[0] == 45
        i = 1
    while i < text.len and text.data[i] == 48 and i + 1 < text.len and 48 <= text.data[i + 1] <= 57:
        i += 1
    first = i
    while i < text.len and 48 <= text.data[i] <= 57:
        if i - first >= 18:
            return False
        whole = whole * 10 + (text.data[i] - 48)
        i += 1
    if i == first:
        return False
    if i < text.len:
        if text.data[i] != 46 or not read_fraction(text.data + i + 1, text.len - i - 1, &nanos):
            return False
    if negative:
        whole = -whole
        if nanos:
            whole -= 1
            nanos = 1000000000 - nanos
    out.seconds = whole
    out.nanos = nanos
    return True


cdef inline int two_digits(const uint8_t *data) noexcept nogil:
    # 0 to 99, or -1.
    if data[0] < 48 or data[0] > 57 or data[1] < 48 or data[1] > 57:
        return -1
    return (data[0] - 48) * 10 + (data[1] - 48)


cdef inline int64_t days_from_civil(int64_t year, int64_t month, int64_t day) noexcept nogil:
    # Days since 1970-01-01 in the proleptic Gregorian calendar; year >= 1, so nothing is negative.
    cdef int64_t y = year - 1 if month <= 2 else year
    cdef int64_t era = y // 400
    cdef int64_t year_of_era = y - era * 400
    cdef int64_t shifted = month - 3 if month > 2 else month + 9
    cdef int64_t day_of_year = (153 * shifted + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


cdef inline int days_in_month(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef bint read_date(Slice text, Moment *out) noexcept nogil:
    # SPEC: W3C Note NOTE-datetime (the profile of ISO 8601 that IAM names), or seconds since the epoch.
    cdef const uint8_t *d = text.data
    cdef uint32_t n = text.len
    cdef int high
    cdef int low
    cdef int year
    cdef int month = 1
    cdef int day = 1
    cdef int hour = 0
    cdef int minute = 0
    cdef int second = 0
    cdef int offset = 0
    cdef uint32_t nanos = 0
    cdef uint32_t i
    cdef uint32_t start
    if n < 4:
        return read_number(text, out)
    high = two_digits(d)
    low = two_digits(d + 2)
    if high < 0 or low < 0 or (n > 4 and d[4] != 45):
        return read_number(text, out)
    year = high * 100 + low
    if year < 1:
        return False
    if n > 4:
        if n < 7:
            return False
        month = two_digits(d + 5)
        if month < 1 or month > 12:
            return False
        if n > 7:
            if n < 10 or d[7] != 45:
                return False
            day = two_digits(d + 8)
            if day < 1 or day > days_in_month(year, month):
                return False
            if n > 10:
                if n < 17 or d[10] != 84 or d[13] != 58:
                    return False
                hour = two_digits(d + 11)
                minute = two_digits(d + 14)
                if hour < 0 or hour > 23 or minute < 0 or minute > 59:
                    return False
                i = 16
                if d[i] == 58:
                    if n < 20:
                        return False
                    second = two_digits(d + 17)
                    if second < 0 or second > 59:
                        return False
                    i = 19
                    if d[i] == 46:
                        start = i + 1
                        i = start
                        while i < n and 48 <= d[i] <= 57:
                            i += 1
                        if not read_fraction(d + start, i - start, &nanos):
                            return False
                if i >= n:
                    return False
                if d[i] == 90:
                    if i + 1 != n:
                        return False
                elif d[i] == 43 or d[i] == 45:
                    if i + 6 != n or d[i + 3] != 58:
                        return False
                    high = two_digits(d + i + 1)
                    low = two_digits(d + i + 4)
                    if high < 0 or high > 23 or low < 0 or low > 59:
                        return False
                    offset = high * 3600 + low * 60
                    if d[i] == 45:
                        offset = -offset
                else:
                    return False
    out.seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    out.nanos = nanos
    return True


cdef uint32_t write_date(int64_t seconds, uint8_t *out) noexcept nogil:
    # `YYYY-MM-DDThh:mm:ssZ`, 20 bytes; the years 1970 to 9999.
    cdef int64_t days
    cdef int64_t rest
    cdef int64_t era
    cdef int64_t day_of_era
    cdef int64_t year_of_era
    cdef int64_t day_of_year
    cdef int64_t shifted
    cdef int64_t parts[6]
    if seconds < 0:
        seconds = 0
    if seconds > 253402300799LL:
        seconds = 253402300799LL
    days = seconds // 86400 + 719468
    rest = seconds % 86400
    era = days // 146097
    day_of_era = days - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    parts[2] = day_of_year - (153 * shifted + 2) // 5 + 1
    parts[1] = shifted + 3 if shifted < 10 else shifted - 9
    parts[0] = year_of_era + era * 400 + (1 if parts[1] <= 2 else 0)
    parts[3] = rest // 3600
    parts[4] = rest // 60 % 60
    parts[5] = rest % 60
    memcpy(out, b"0000-00-00T00:00:00Z", 20)
    out[0] = 48 + <uint8_t>(parts[0] // 1000)
    out[1] = 48 + <uint8_t>(parts[0] // 100 % 10)
    out[2] = 48 + <uint8_t>(parts[0] // 10 % 10)
    out[3] = 48 + <uint8_t>(parts[0] % 10)
    cdef int i
    for i in range(1, 6):
        out[2 + 3 * i] = 48 + <uint8_t>(parts[i] // 10)
        out[3 + 3 * i] = 48 + <uint8_t>(parts[i] % 10)
    return 20


# An IP address as a number of 128 bits; IPv4 stands in the last 32.
cdef struct Address:
    uint64_t high
    uint64_t low
    uint32_t family


cdef bint read_ipv4(const uint8_t *d, uint32_t n, uint32_t *out) noexcept nogil:
    # Four decimal numbers; a leading zero is refused, since some read it as octal.
    cdef uint32_t value = 0
    cdef uint32_t part
    cdef uint32_t digits
    cdef uint32_t i = 0
    cdef uint32_t k
    for k in range(4):
        part = 0
        digits = 0
        while i < n and 48 <= d[i] <= 57:
            part = part * 10 + (d[i] - 48)
            digits += 1
            i += 1
            if digits > 3:
                return False
        if digits == 0 or part > 255 or (digits > 1 and d[i - digits] == 48):
            return False
        value = value << 8 | part
        if k < 3:
            if i >= n or d[i] != 46:
                return False
            i += 1
    out[0] = value
    return i == n


cdef inline int hex_digit(uint8_t c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c = c | 32
    if 97 <= c <= 102:
        return c - 87
    return -1


cdef bint read_address(Slice text, Address *out) noexcept nogil:
    # SPEC: RFC 4291, section 2.2. `::ffff:a.b.c.d` is the IPv4 address that it carries.
    cdef uint16_t groups[8]
    cdef uint32_t count = 0
    cdef int gap = -1
    cdef uint32_t i = 0
    cdef uint32_t start
    cdef uint32_t v4
    cdef uint32_t value
    cdef uint32_t k
    cdef uint32_t missing
    cdef const uint8_t *d = text.data
    cdef uint32_t n = text.len
    if n < 2 or n > 45:
        return False
    if memchr(d, 58, n) == NULL:
        if not read_ipv4(d, n, &v4):
            return False
        out.high = 0
        out.low = v4
        out.family = 4
        return True
    if d[0] == 58:
        if d[1] != 58:
            return False
        gap = 0
        i = 2
    while i < n:
        if count >= 8:
            return False
        start = i
        value = 0
        while i < n and hex_digit(d[i]) >= 0:
            if i - start >= 4:
                return False
            value = value << 4 | <uint32_t>hex_digit(d[i])
            i += 1
        if i < n and d[i] == 46:
            if count > 6 or not read_ipv4(d + start, n - start, &v4):
                return False
            groups[count] = <uint16_t>(v4 >> 16)
            groups[count + 1] = <uint16_t>v4
            count += 2
            i = n
            break
        if i == start:
            return False
        groups[count] = <uint16_t>value
        count += 1
        if i == n:
            break
        if d[i] != 58:
            return False
        i += 1
        if i == n:
            return False
        if d[i] == 58:
            if gap >= 0:
                return False
            gap = <int>count
            i += 1
    if gap < 0:
        if count != 8:
            return False
    else:
        if count > 7:
            return False
        missing = 8 - count
        k = 7
        while k >= <uint32_t>gap + missing:
            groups[k] = groups[k - missing]
            if k == 0:
                break
            k -= 1
        for k in range(<uint32_t>gap, <uint32_t>gap + missing):
            groups[k] = 0
    out.high = <uint64_t>groups[0] << 48 | <uint64_t>groups[1] << 32 | <uint64_t>groups[2] << 16 | groups[3]
    out.low = <uint64_t>groups[4] << 48 | <uint64_t>groups[5] << 32 | <uint64_t>groups[6] << 16 | groups[7]
    out.family = 6
    if out.high == 0 and out.low >> 32 == 0xFFFF:
        out.low &= 0xFFFFFFFFULL
        out.family = 4
    return True


cdef inline bint network_holds(const Network *network, const Address *address) noexcept nogil:
    cdef uint32_t bits = network.prefix
    if network.family != address.family:
        return False
    if bits == 0:
        return True
    if network.family == 4:
        return (network.low ^ address.low) >> (32 - bits) == 0
    if bits <= 64:
        return (network.high ^ address.high) >> (64 - bits) == 0
    if network.high != address.high:
        return False
    return (network.low ^ address.low) >> (128 - bits) == 0


cdef inline int base64_digit(uint8_t c) noexcept nogil:
    if 65 <= c <= 90:
        return c - 65
    if 97 <= c <= 122:
        return c - 71
    if 48 <= c <= 57:
        return c + 4
    if c == 43:
        return 62
    if c == 47:
        return 63
    return -1


cdef int base64_equals(Slice text, const uint8_t *want, uint32_t want_len) noexcept nogil:
    # 1: the text is base64 of those bytes; 0: of other bytes; -1: it is no base64 (RFC 4648, padded, no spaces).
    cdef uint32_t i
    cdef uint32_t k
    cdef uint32_t pads = 0
    cdef uint32_t place = 0
    cdef uint32_t quad
    cdef int digit
    cdef bint same = True
    cdef uint8_t byte
    if text.len % 4:
        return -1
    for i in range(0, text.len, 4):
        quad = 0
        for k in range(4):
            if text.data[i + k] == 61:
                if i + 4 != text.len or k < 2 or (k == 2 and text.data[i + 3] != 61):
                    return -1
                pads += 1
                quad <<= 6
                continue
            digit = base64_digit(text.data[i + k])
            if digit < 0:
                return -1
            quad = quad << 6 | <uint32_t>digit
        if (pads == 1 and quad & 0xFF) or (pads == 2 and quad & 0xFFFF):
            return -1
        for k in range(3 - pads):
            byte = <uint8_t>(quad >> (16 - 8 * k))
            if place >= want_len or want[place] != byte:
                same = False
            place += 1
    return 1 if same and place == want_len else 0
