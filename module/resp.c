#include "resp.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The bytes up to CRLF; -1 when there is none. */
static int read_line(const char *buf, size_t len, size_t *pos, const char **line, size_t *line_len) {
    const char *start = buf + *pos;
    const char *cr = *pos < len ? memchr(start, '\r', len - *pos) : NULL;
    if (!cr || (size_t)(cr - buf) + 1 >= len || cr[1] != '\n') return -1;
    if (memchr(start, '\n', (size_t)(cr - start))) return -1;
    *line = start;
    *line_len = (size_t)(cr - start);
    *pos = (size_t)(cr - buf) + 2;
    return 0;
}

static int read_number(const char *s, size_t len, long long *out) {
    size_t i = 0;
    int negative = 0;
    if (len && s[0] == '-') {
        negative = 1;
        i = 1;
    }
    if (i == len || len - i > 18) return -1; /* 18 digits: no overflow to think of */
    long long value = 0;
    for (; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        value = value * 10 + (s[i] - '0');
    }
    *out = negative ? -value : value;
    return 0;
}

/* The line ends with CRLF, so strtod stops there. */
static int read_double(const char *s, size_t len, double *out) {
    char *end;
    if (len == 0 || isspace((unsigned char)s[0])) return -1;
    *out = strtod(s, &end);
    return end == s + len ? 0 : -1;
}

int km_resp_next(const char *buf, size_t len, size_t *pos, km_resp *out) {
    if (*pos >= len) return -1;
    char type = buf[(*pos)++];
    const char *line;
    size_t line_len;
    if (!type || !strchr("+-:,$*", type) || read_line(buf, len, pos, &line, &line_len) != 0) return -1;
    *out = (km_resp){.type = type, .text = line, .len = line_len};
    if (type == '+' || type == '-') return memchr(line, 0, line_len) ? -1 : 0; /* the server would end the reply there */
    if (type == ',') return read_double(line, line_len, &out->real);
    if (read_number(line, line_len, &out->number) != 0) return -1;
    if (type == ':') return 0;
    if (out->number == -1) {
        out->type = type == '$' ? 'n' : 'N';
        return 0;
    }
    if (out->number < 0) return -1;
    if (type == '*') return (unsigned long long)out->number > len - *pos ? -1 : 0; /* an element takes bytes */
    size_t bulk = (size_t)out->number;
    if (len - *pos < 2 || bulk > len - *pos - 2) return -1;
    if (buf[*pos + bulk] != '\r' || buf[*pos + bulk + 1] != '\n') return -1;
    out->text = buf + *pos;
    out->len = bulk;
    *pos += bulk + 2;
    return 0;
}

static int check_value(const char *buf, size_t len, size_t *pos, int depth) {
    km_resp value;
    if (depth > KM_RESP_MAX_DEPTH || km_resp_next(buf, len, pos, &value) != 0) return -1;
    if (value.type != '*') return 0;
    for (long long i = 0; i < value.number; i++)
        if (check_value(buf, len, pos, depth + 1) != 0) return -1;
    return 0;
}

int km_resp_check(const char *buf, size_t len) {
    size_t pos = 0;
    return check_value(buf, len, &pos, 1) == 0 && pos == len ? 0 : -1;
}
