/* A slot on its way to another server: MIGRATE here, RESTORE-ASKING there. What such a command does to a key is no change
 * of the key: functions hear nothing of it, and what was derived stays as good as it was. */
#ifndef KM_MOVING_H
#define KM_MOVING_H

#include "kmapi.h"

typedef enum { KM_STAYS, KM_LEAVES, KM_ARRIVES } km_move;

/* What the command that runs now does. Set by the filter of miss.c, as the server says nothing of it; ended by the next
 * command, and by `km_move_ended` where keys change outside of commands. */
extern km_move km_moving;

void km_moving_filter(RedisModuleCommandFilterCtx *fctx); /* for every command */
static inline void km_move_ended(void) { km_moving = KM_STAYS; }
/* 1 if it is the event of a key that leaves or arrives. */
int km_is_move(const char *event);

/* Keys that MIGRATE is to leave out. The hook is asked for each of its keys, in the filter: it opens none, and has them
 * gone soon, as whoever moves a slot asks again and again until it is empty. */
typedef int (*km_stays_hook)(const char *key, size_t len);
void km_stays(km_stays_hook hook);

#endif
