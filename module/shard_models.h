/* The models of this shard by name. A model belongs to the shard, whatever slots it has: what runs it asks by its key, or
 * by the key's name without the tag, and gets the one of that name that the shard has, under whichever tag. */
#ifndef KM_SHARD_MODELS_H
#define KM_SHARD_MODELS_H

#include "map.h"
#include "model.h"

int km_shard_models_register(RedisModuleCtx *ctx); /* KM.MODELS, KM.MODELHOME, KM.MODELDROP */

/* A model was stored or loaded at the key. */
void km_shard_models_note(RedisModuleString *key, const km_model *model);
/* The key's value is about to go: of a slot that moves, a copy is kept. */
void km_shard_models_leaves(RedisModuleString *key, const km_model *model);
/* Keeps a model that has no key; takes it over. */
void km_shard_models_keep(RedisModuleString *key, km_model *model);
/* Another number whenever a model came, went, or got its digest: jobs carry it to workers, who ask again only then. */
unsigned long long km_shard_models_epoch(void);
void km_shard_models_changed(void);
/* NULL if there is none. */
km_model *km_shard_model(RedisModuleCtx *ctx, RedisModuleString *name);

#endif
