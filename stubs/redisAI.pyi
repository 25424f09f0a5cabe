# The module that the worker puts beside its functions (keymiss.worker.functions.gears_api.install_modules).
from keymiss.reading.tensors import Tensor as PyTensor
from keymiss.worker.functions.redisai_api import create_dag_runner as createDAGRunner
from keymiss.worker.functions.redisai_api import create_model_runner as createModelRunner
from keymiss.worker.functions.redisai_api import create_script_runner as createScriptRunner
from keymiss.worker.functions.redisai_api import create_tensor_from_blob as createTensorFromBlob
from keymiss.worker.functions.redisai_api import create_tensor_from_values as createTensorFromValues
from keymiss.worker.functions.redisai_api import get_tensor_from_key as getTensorFromKey
from keymiss.worker.functions.redisai_api import mget_tensors_from_keyspace as mgetTensorsFromKeyspace
from keymiss.worker.functions.redisai_api import model_runner_add_input as modelRunnerAddInput
from keymiss.worker.functions.redisai_api import model_runner_add_output as modelRunnerAddOutput
from keymiss.worker.functions.redisai_api import model_runner_run as modelRunnerRun
from keymiss.worker.functions.redisai_api import model_runner_run_async as modelRunnerRunAsync
from keymiss.worker.functions.redisai_api import mset_tensors_in_keyspace as msetTensorsInKeyspace
from keymiss.worker.functions.redisai_api import script_runner_add_input as scriptRunnerAddInput
from keymiss.worker.functions.redisai_api import script_runner_add_input_list as scriptRunnerAddInputList
from keymiss.worker.functions.redisai_api import script_runner_add_output as scriptRunnerAddOutput
from keymiss.worker.functions.redisai_api import script_runner_run as scriptRunnerRun
from keymiss.worker.functions.redisai_api import script_runner_run_async as scriptRunnerRunAsync
from keymiss.worker.functions.redisai_api import set_tensor_in_key as setTensorInKey
from keymiss.worker.functions.redisai_api import tensor_get_data_as_blob as tensorGetDataAsBlob
from keymiss.worker.functions.redisai_api import tensor_get_dims as tensorGetDims
from keymiss.worker.functions.redisai_api import tensor_to_flat_list as tensorToFlatList

__all__ = [
    "PyTensor",
    "createDAGRunner",
    "createModelRunner",
    "createScriptRunner",
    "createTensorFromBlob",
    "createTensorFromValues",
    "getTensorFromKey",
    "mgetTensorsFromKeyspace",
    "modelRunnerAddInput",
    "modelRunnerAddOutput",
    "modelRunnerRun",
    "modelRunnerRunAsync",
    "msetTensorsInKeyspace",
    "scriptRunnerAddInput",
    "scriptRunnerAddInputList",
    "scriptRunnerAddOutput",
    "scriptRunnerRun",
    "scriptRunnerRunAsync",
    "setTensorInKey",
    "tensorGetDataAsBlob",
    "tensorGetDims",
    "tensorToFlatList",
]
