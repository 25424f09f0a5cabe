"""The QA models: export to TorchScript, load into the cluster; reader/ holds the embedded one."""
