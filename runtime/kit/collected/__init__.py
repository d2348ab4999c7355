"""What a station sends home to its makers: facts of the device and of its models, and nothing of patients."""
