#include "answer.h"

#include <stdio.h>

#include "core.h"
#include "resp.h"

struct km_answer {
    int refs;
    int is_failure;
    size_t len;
    char raw[];
};

km_answer *km_answer_new(const char *raw, size_t len) {
    km_answer *a = km_alloc(sizeof *a + len);
    a->refs = 1;
    a->is_failure = 0;
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
    a->is_failure = 0;
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
    a->is_failure = 0;
    a->len = prefix_len + len + 3;
    a->is_failure = 1;
    a->raw[0] = '-';
    memcpy(a->raw + 1, prefix, prefix_len);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        a->raw[1 + prefix_len + i] = c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
    }
    memcpy(a->raw + 1 + prefix_len + len, "\r\n", 2);
    return a;
}

km_answer *km_answer_texts(const char *text, size_t len) {
    if (!text) return km_answer_new("*0\r\n", 4);
    char head[32];
    size_t head_len = (size_t)snprintf(head, sizeof head, "*1\r\n$%zu\r\n", len);
    km_answer *a = km_alloc(sizeof *a + head_len + len + 2);
    a->refs = 1;
    a->is_failure = 0;
    a->len = head_len + len + 2;
    memcpy(a->raw, head, head_len);
    memcpy(a->raw + head_len, text, len);
    memcpy(a->raw + head_len + len, "\r\n", 2);
    return a;
}

km_answer *km_answer_pair(const km_answer *a, const km_answer *b) {
    km_answer *both = km_alloc(sizeof *both + 4 + a->len + b->len);
    both->refs = 1;
    both->is_failure = 0;
    both->len = 4 + a->len + b->len;
    memcpy(both->raw, "*2\r\n", 4);
    memcpy(both->raw + 4, a->raw, a->len);
    memcpy(both->raw + 4 + a->len, b->raw, b->len);
    return both;
}

int km_answer_is_error(const km_answer *a) { return a->raw[0] == '-'; }
int km_answer_is_failure(const km_answer *a) { return a->is_failure; }
int km_answer_is_nothing(const km_answer *a) { return a->len == 5 && memcmp(a->raw, "*-1\r\n", 5) == 0; }
size_t km_answer_size(const km_answer *a) { return a->len; }

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
    case ',': RedisModule_ReplyWithDouble(ctx, value.real); break;
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

void km_answer_reply_results(RedisModuleCtx *ctx, const km_answer *a) {
    if (a && a->raw[0] == '*' && !km_answer_is_nothing(a)) {
        km_answer_reply(ctx, a);
        return;
    }
    RedisModule_ReplyWithArray(ctx, 2);
    RedisModule_ReplyWithArray(ctx, 0);
    if (!a || !km_answer_is_error(a)) {
        RedisModule_ReplyWithArray(ctx, 0);
        return;
    }
    RedisModule_ReplyWithArray(ctx, 1);
    RedisModule_ReplyWithStringBuffer(ctx, a->raw + 1, a->len - 3);
}
