/* The answer that every client of a job gets: one RESP2 value, shared and counted. */
#ifndef KM_ANSWER_H
#define KM_ANSWER_H

#include "kmapi.h"

typedef struct km_answer km_answer;

km_answer *km_answer_new(const char *raw, size_t len); /* one RESP2 value, checked; held once */
km_answer *km_answer_bulk(const char *bytes, size_t len);
km_answer *km_answer_error(const char *prefix, const char *text, size_t len); /* line breaks become spaces */
km_answer *km_answer_share(km_answer *a);
km_answer *km_answer_texts(const char *text, size_t len); /* an array of this one text, or of none (NULL) */
km_answer *km_answer_pair(const km_answer *a, const km_answer *b); /* an array of the two */
int km_answer_is_error(const km_answer *a);
int km_answer_is_failure(const km_answer *a); /* of km_answer_error: no function said it */
int km_answer_is_nothing(const km_answer *a); /* a null array: the function has put nothing in the reply's place */
size_t km_answer_size(const km_answer *a);
/* [results, errors]: the answer, if it is an array of them, else of an execution that keeps no results. */
void km_answer_reply_results(RedisModuleCtx *ctx, const km_answer *a);
void km_answer_release(km_answer *a);
void km_answer_reply(RedisModuleCtx *ctx, const km_answer *a);

#endif
