"""The guard's policy: what is done when the audit stream says that the model memorizes."""
