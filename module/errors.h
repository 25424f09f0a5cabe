/* Texts that several AI.* commands give, as RedisAI has them. */
#ifndef KM_ERRORS_H
#define KM_ERRORS_H

static const char km_no_tensor[] __attribute__((unused)) = "ERR tensor key is empty or in a different shard";
static const char km_no_model[] __attribute__((unused)) = "ERR model key is empty";
static const char km_no_script[] __attribute__((unused)) = "ERR script key is empty";
static const char km_not_here[] __attribute__((unused)) = "ERR Cannot run RedisAI command within a transaction or a LUA script";
static const char km_bad_device[] __attribute__((unused)) = "ERR Invalid DEVICE";
static const char km_not_run[] __attribute__((unused)) =
    "ERR TF and TFLITE models do not run here: TORCH and ONNX do; convert the model to ONNX (tf2onnx)";

#endif
