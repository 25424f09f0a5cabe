#include "executions.h"

#include "gears_config.h"

#define MAX_BYTES (64 * 1024 * 1024) /* of results and errors, all together */

static km_execution *first, *last;
static long long n;
static size_t bytes;

static size_t size_of(const km_execution *e) {
    return (e->results ? km_answer_size(e->results) : 0) + (e->errors ? km_answer_size(e->errors) : 0);
}

static void unlink_of_registration(km_execution *e) {
    km_execution *before = NULL;
    for (km_execution *one = e->reg->ended_first; one != e; one = one->next_of) before = one;
    if (before)
        before->next_of = e->next_of;
    else
        e->reg->ended_first = e->next_of;
    if (e->reg->ended_last == e) e->reg->ended_last = before;
    e->reg->n_ended--;
}

void km_executions_drop(km_execution *e) {
    if (e->reg) unlink_of_registration(e);
    *(e->prev ? &e->prev->next : &first) = e->next;
    *(e->next ? &e->next->prev : &last) = e->prev;
    n--;
    bytes -= size_of(e);
    if (e->results) km_answer_release(e->results);
    if (e->errors) km_answer_release(e->errors);
    km_free(e);
}

void km_executions_drop_of(km_registration *reg) {
    while (reg->ended_first) km_executions_drop(reg->ended_first);
}

void km_executions_trim(void) {
    while (first && (n > km_gears_config.max_executions || bytes > MAX_BYTES)) km_executions_drop(first);
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next)
        while (reg->n_ended > km_gears_config.max_executions_per_registration) km_executions_drop(reg->ended_first);
}

void km_executions_add(km_registration *reg, long long number, int status, long long took_ms, int n_results, km_answer *results,
                       km_answer *errors) {
    km_execution *e = km_calloc(1, sizeof *e);
    *e = (km_execution){.prev = last, .reg = reg, .number = number, .status = status, .n_results = n_results, .took_ms = took_ms,
                        .results = results, .errors = errors};
    *(last ? &last->next : &first) = e;
    last = e;
    n++;
    bytes += size_of(e);
    if (reg) {
        *(reg->ended_last ? &reg->ended_last->next_of : &reg->ended_first) = e;
        reg->ended_last = e;
        if (++reg->n_ended > km_gears_config.max_executions_per_registration) km_executions_drop(reg->ended_first);
    }
    while (first && (n > km_gears_config.max_executions || bytes > MAX_BYTES)) km_executions_drop(first);
}

km_execution *km_executions_first(void) { return first; }

km_execution *km_executions_find(long long number) {
    for (km_execution *e = last; e; e = e->prev)
        if (e->number == number) return e;
    return NULL;
}
