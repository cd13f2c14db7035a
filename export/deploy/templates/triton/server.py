"""The server: what every client begins with."""

import os

import tritonclient.http as triton
from tritonclient.utils import np_to_triton_dtype


def ask(model, tensors):
    """A model's outputs by name, of its inputs by name."""
    given = []
    for name, values in tensors.items():
        given.append(triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)))
        given[-1].set_data_from_numpy(values)
    answer = triton.InferenceServerClient(os.environ.get("TRITON", "localhost:8000")).infer(model, given)
    return {output["name"]: answer.as_numpy(output["name"]) for output in answer.get_response()["outputs"]}
