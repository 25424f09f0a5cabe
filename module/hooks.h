/* Commands that functions have hooked: a CommandReader's hook runs in the place of the command; a KeysReader with commands hears
 * the events of those commands alone, and their clients wait for it. */
#ifndef KM_HOOKS_H
#define KM_HOOKS_H

#include "jobs.h"

int km_hooks_register(RedisModuleCtx *ctx);
/* Of the command filter, when km_hook_count is not 0: 1 if the command is hooked and has become one of ours. */
int km_hooks_filter(RedisModuleCommandFilterCtx *fctx);
/* The registration hears of an event that happens now: it names no commands, or the hooked one that runs. */
int km_hooks_hears(const km_registration *reg);
/* The hooked command that runs, if one does, waits for the event's job. */
void km_hooks_follow(const km_registration *reg, km_job *job);

#endif
