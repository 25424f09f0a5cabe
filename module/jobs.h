/* Between the jobs' own files: answers (answer.c), the jobs and who waits for them (jobs.c), and the commands by which
 * workers take and answer them (protocol.c). For everyone else: core.h. */
#ifndef KM_JOBS_H
#define KM_JOBS_H

#include "core.h"

#define KM_MAX_PULL 1024
#define KM_MAX_REQUESTS 16 /* ids that a job carries into a log: enough to find it, not a line without end */

/* ---- answer.c ---- */
typedef struct km_answer km_answer;
km_answer *km_answer_new(const char *raw, size_t len); /* one RESP2 value, checked; held once */
km_answer *km_answer_error(const char *prefix, const char *text, size_t len); /* line breaks become spaces */
void km_answer_share(km_answer *a);
void km_answer_release(km_answer *a);
void km_answer_reply(RedisModuleCtx *ctx, const km_answer *a);

/* ---- jobs.c, for the protocol ---- */
const char *km_job_kind_name(const km_job *job);
long long km_job_queued_ms(const km_job *job); /* since it was made; of a job that came back, its former runs too */
/* The different request ids of those who wait for it now, the newest first, at most KM_MAX_REQUESTS; returns how
 * many. They are the waiters' own: to be used before anything else runs. */
int km_job_requests(const km_job *job, const char **ids);
long long km_jobs_waiting(void); /* that a worker could take now */
/* Takes up to max (at most KM_MAX_PULL) jobs out of the queues, questions first; they run from now on. */
int km_jobs_take(unsigned long long client, int max, km_job **taken);
km_job *km_job_running(uint64_t id); /* NULL if it does not run */
int km_job_wanted(const km_job *job); /* somebody waits for it, or nobody has to */
void km_job_done(km_job *job, const char *raw, size_t len);
void km_job_failed(km_job *job, const char *text, size_t len);
void km_job_give_back(km_job *job); /* it was not begun */
void km_jobs_worker_gone(RedisModuleCtx *ctx, unsigned long long client); /* its jobs go back, or end */

/* ---- protocol.c, for the jobs ---- */
int km_protocol_register(RedisModuleCtx *ctx, uint64_t seed); /* KM.PULL, KM.DONE, ... */
void km_protocol_wake(void); /* hands what waits to a worker that waits */
size_t km_protocol_workers(void);
void km_protocol_tick(mstime_t now);
void km_protocol_client_left(RedisModuleCtx *ctx, unsigned long long client); /* any client of the server */

#endif
