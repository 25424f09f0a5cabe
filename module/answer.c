/* The answer that every client of a job gets: one RESP2 value, shared and counted. */
#include <stdio.h>

#include "jobs.h"
#include "resp.h"

struct km_answer {
    int refs;
    size_t len;
    char raw[];
};

km_answer *km_answer_new(const char *raw, size_t len) {
    km_answer *a = km_alloc(sizeof *a + len);
    a->refs = 1;
    a->len = len;
    memcpy(a->raw, raw, len);
    return a;
}

/* "$<len>\r\n<bytes>\r\n" */
km_answer *km_answer_bulk(const char *bytes, size_t len) {
    char head[32];
    size_t head_len = (size_t)snprintf(head, sizeof head, "$%zu\r\n", len);
    km_answer *a = km_alloc(sizeof *a + head_len + len + 2);
    a->refs = 1;
    a->len = head_len + len + 2;
    memcpy(a->raw, head, head_len);
    memcpy(a->raw + head_len, bytes, len);
    memcpy(a->raw + head_len + len, "\r\n", 2);
    return a;
}

/* "-<text>\r\n", line breaks in the text made spaces. */
km_answer *km_answer_error(const char *prefix, const char *text, size_t len) {
    size_t prefix_len = strlen(prefix);
    if (len > 4096) len = 4096;
    km_answer *a = km_alloc(sizeof *a + prefix_len + len + 3);
    a->refs = 1;
    a->len = prefix_len + len + 3;
    a->raw[0] = '-';
    memcpy(a->raw + 1, prefix, prefix_len);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        a->raw[1 + prefix_len + i] = c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
    }
    memcpy(a->raw + 1 + prefix_len + len, "\r\n", 2);
    return a;
}

int km_answer_is_error(const km_answer *a) { return a->raw[0] == '-'; }

void km_answer_release(km_answer *a) {
    if (--a->refs == 0) km_free(a);
}

static void reply_value(RedisModuleCtx *ctx, const km_answer *a, size_t *pos) {
    km_resp value;
    if (km_resp_next(a->raw, a->len, pos, &value) != 0) return; /* was checked when it came */
    char *text;
    switch (value.type) {
    case '+':
        text = km_memdup0(value.text, value.len);
        RedisModule_ReplyWithSimpleString(ctx, text);
        km_free(text);
        break;
    case '-':
        text = km_memdup0(value.text, value.len);
        RedisModule_ReplyWithError(ctx, text);
        km_free(text);
        break;
    case ':': RedisModule_ReplyWithLongLong(ctx, value.number); break;
    case '$': RedisModule_ReplyWithStringBuffer(ctx, value.text, value.len); break;
    case 'n': RedisModule_ReplyWithNull(ctx); break;
    case 'N': RedisModule_ReplyWithNullArray(ctx); break;
    case '*':
        RedisModule_ReplyWithArray(ctx, (long)value.number);
        for (long long i = 0; i < value.number; i++) reply_value(ctx, a, pos);
        break;
    }
}

km_answer *km_answer_share(km_answer *a) {
    a->refs++;
    return a;
}

void km_answer_reply(RedisModuleCtx *ctx, const km_answer *a) {
    size_t pos = 0;
    reply_value(ctx, a, &pos);
}
