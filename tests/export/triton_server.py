"""A stand-in for Triton: it reads a model repository, holds every tensor against the configurations, and runs ONNX
Runtime, models of the Python backend and ensembles. There is a `tritonclient` for it, so clients run as they are.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

DTYPES = {"UINT8": np.uint8, "INT32": np.int32, "FP32": np.float32, "FP64": np.float64}

# The fields of the messages in Triton's public model_config.proto that are in use here: name, number, type; * repeated.
MESSAGES = {
    "ModelInput": "name 1 string, data_type 2 DataType, dims 4 int64*",
    "ModelOutput": "name 1 string, data_type 2 DataType, dims 3 int64*",
    "ModelInstanceGroup": "count 2 int32, kind 4 Kind",
    "ModelDynamicBatching": "",
    "ModelParameter": "string_value 1 string",
    "Parameters": "key 1 string, value 2 ModelParameter",
    "Names": "key 1 string, value 2 string",
    "Step": "model_name 1 string, model_version 2 int64, input_map 3 Names*, output_map 4 Names*",
    "ModelEnsembling": "step 1 Step*",
    "ModelConfig": "name 1 string, platform 2 string, max_batch_size 4 int32, input 5 ModelInput*, "
    "output 6 ModelOutput*, instance_group 7 ModelInstanceGroup*, dynamic_batching 11 ModelDynamicBatching, "
    "parameters 14 Parameters*, ensemble_scheduling 15 ModelEnsembling, backend 17 string",
}
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT32": 8, "TYPE_FP32": 11, "TYPE_FP64": 12},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}


def _model_config():
    """The class of the ModelConfig message."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for word, number in values.items():
            enum.value.add(name=word, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            name, number, kind = field.split()
            added = message.field.add(name=name, number=int(number), label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            if kind in ENUMS or kind in MESSAGES:
                added.type, added.type_name = 14 if kind in ENUMS else 11, f".inference.{kind}"
            else:
                added.type = {"string": 9, "int64": 3, "int32": 5}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


ModelConfig = _model_config()


def read_config(path: Path):
    """A config.pbtxt. Raises ParseError on what Triton's message does not have."""
    return text_format.Parse(path.read_text(), ModelConfig())


class Server:
    """All models of a repository, loaded as Triton does: every folder in it is one, with a version and its file."""

    def __init__(self, repository: Path) -> None:
        self.configs, self.runs = {}, {}
        for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
            config = read_config(folder / "config.pbtxt")
            assert config.name == folder.name
            assert (folder / "1").is_dir(), "a model needs a version"
            self.configs[config.name] = config
            self.runs[config.name] = self._loaded(config, folder / "1")

    def _loaded(self, config, version: Path):
        if config.platform == "ensemble":
            return lambda tensors: self._ensemble(config, tensors)
        if config.backend == "onnxruntime":
            session = onnxruntime.InferenceSession(str(version / "model.onnx"))
            names = [output.name for output in config.output]
            return lambda tensors: dict(zip(names, session.run(names, tensors), strict=True))
        assert config.backend == "python"
        return _python_model(config, version)

    def infer(self, model: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a model."""
        config = self.configs[model]
        _checked(model, config.input, config.max_batch_size, tensors)
        outputs = self.runs[model](tensors)
        _checked(model, config.output, config.max_batch_size, outputs)
        return outputs

    def _ensemble(self, config, tensors):
        known, waiting = dict(tensors), list(config.ensemble_scheduling.step)
        while waiting:
            ready = [step for step in waiting if all(entry.value in known for entry in step.input_map)]
            assert ready, f"nothing gives what {[step.model_name for step in waiting]} wait for"
            for step in ready:
                found = self.infer(step.model_name, {entry.key: known[entry.value] for entry in step.input_map})
                for entry in step.output_map:
                    assert entry.value not in known, f"{entry.value} is made twice"
                    known[entry.value] = found[entry.key]
                waiting.remove(step)
        return {output.name: known[output.name] for output in config.output}


def _checked(model, fields, most, tensors):
    """Fails where Triton refuses: names, types, shapes, and batches of none or too many."""
    assert {field.name for field in fields} == set(tensors), model
    for field in fields:
        values, dims = tensors[field.name], list(field.dims)
        assert values.dtype == DTYPES[ENUMS_BY_NUMBER[field.data_type]], (model, field.name, values.dtype)
        shape = list(values.shape)
        if most:
            assert 1 <= shape.pop(0) <= most, (model, field.name, values.shape, most)
        fits = len(shape) == len(dims) and all(want in (-1, size) for want, size in zip(dims, shape, strict=True))
        assert fits, (model, field.name, values.shape, dims)


ENUMS_BY_NUMBER = {number: word.removeprefix("TYPE_") for word, number in ENUMS["DataType"].items()}


class Tensor:
    """The Python backend's."""

    def __init__(self, name, values):
        assert isinstance(values, np.ndarray) and values.flags.c_contiguous
        self._name, self._values = name, values

    def name(self):
        return self._name

    def as_numpy(self):
        return self._values


def _python_model(config, version: Path):
    """A model of the Python backend, in whose folder its imports lie."""
    backend = ModuleType("triton_python_backend_utils")
    backend.Tensor, backend.InferenceResponse = Tensor, lambda output_tensors: SimpleNamespace(tensors=output_tensors)
    own = {path.stem for path in version.glob("*.py")}
    with _modules({"triton_python_backend_utils": backend}, own):
        sys.path.append(str(version))
        try:
            spec = importlib.util.spec_from_file_location(f"{config.name}_model", version / "model.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(version))
    model = module.TritonPythonModel()
    fields = json_format.MessageToDict(config, preserving_proto_field_name=True)
    fields["parameters"] = {entry.key: {"string_value": entry.value.string_value} for entry in config.parameters}
    model.initialize({"model_config": json.dumps(fields), "model_name": config.name})

    def run(tensors):
        request = SimpleNamespace(inputs=lambda: [Tensor(name, values) for name, values in tensors.items()])
        (response,) = model.execute([request])
        return {tensor.name(): tensor.as_numpy() for tensor in response.tensors}

    return run


@contextmanager
def _modules(stand_ins, forgotten=()):
    """Modules in the place of those of that name, or of none; and others that are forgotten afterwards."""
    before = {name: sys.modules.get(name) for name in (*stand_ins, *forgotten)}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


class InferInput:
    """tritonclient's."""

    def __init__(self, name, shape, datatype):
        self.name, self.shape, self.dtype = name, shape, DTYPES[datatype]

    def set_data_from_numpy(self, input_tensor):
        assert list(input_tensor.shape) == self.shape and input_tensor.dtype == self.dtype
        self.values = input_tensor


class _Result:
    def __init__(self, outputs):
        self.outputs = outputs

    def as_numpy(self, name):
        return self.outputs[name]

    def get_response(self):
        return {"outputs": [{"name": name} for name in sorted(self.outputs)]}  # in no useful order, as Triton's


def client_modules(server: Server) -> dict[str, ModuleType]:
    """tritonclient, whose only server is this one."""
    modules = {name: ModuleType(name) for name in ("tritonclient", "tritonclient.http", "tritonclient.utils")}
    modules["tritonclient"].http = modules["tritonclient.http"]

    class InferenceServerClient:
        def __init__(self, url):
            assert url == "localhost:8000"

        def infer(self, model_name, inputs):
            return _Result(server.infer(model_name, {given.name: given.values for given in inputs}))

    modules["tritonclient.http"].InferInput = InferInput
    modules["tritonclient.http"].InferenceServerClient = InferenceServerClient
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    modules["tritonclient.utils"].np_to_triton_dtype = lambda dtype: names[np.dtype(dtype)]
    return modules


def run_client(script: Path, server: Server, *arguments) -> None:
    """A client script as `python script arguments`, with that server."""
    before = sys.argv
    sys.argv = [str(script), *map(str, arguments)]
    try:
        with _modules(client_modules(server)):
            code = {"__name__": "__main__", "__file__": str(script), "__doc__": script.read_text().split('"""')[1]}
            exec(compile(script.read_text(), str(script), "exec"), code)
    finally:
        sys.argv = before
