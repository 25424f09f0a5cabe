/* Executions that have ended, kept for RG.GETEXECUTION, RG.GETRESULTS: those of registrations, and runs that nobody waited for.
 * Bounded in their number (RG.CONFIGSET MaxExecutions, MaxExecutionsPerRegistration) and in the size of their results: the
 * oldest go. In memory only. Those that wait or run are jobs (jobs.h). */
#ifndef KM_EXECUTIONS_H
#define KM_EXECUTIONS_H

#include "answer.h"
#include "registry.h"

enum { KM_EXECUTION_DONE, KM_EXECUTION_ABORTED };

typedef struct km_execution {
    struct km_execution *prev, *next; /* the oldest first */
    struct km_execution *next_of;     /* of the same registration */
    km_registration *reg;             /* NULL: of none */
    long long number;
    int status, n_results;
    long long took_ms;
    km_answer *results, *errors; /* arrays; NULL: an empty one */
} km_execution;

/* Takes the answers over. */
void km_executions_add(km_registration *reg, long long number, int status, long long took_ms, int n_results, km_answer *results,
                       km_answer *errors);
km_execution *km_executions_first(void);
km_execution *km_executions_find(long long number);
void km_executions_drop(km_execution *e);
void km_executions_drop_of(km_registration *reg);
/* After one of the limits has changed. */
void km_executions_trim(void);

#endif
