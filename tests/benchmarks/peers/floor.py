"""The least that answers ModelInfer: ``floor.py PORT STUDENT.onnx NULL.onnx``, a blocking server.

No queue, no limits, no checks, no metrics: what is slower than this does more.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import onnxruntime

from histill.api.inference.v2 import grpc_service_pb2 as pb

THREADS = 2


def answer(sessions: dict[str, Any], request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """The mask of the batch."""
    shape = tuple(request.inputs[0].shape)
    batch = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(shape)
    [mask] = sessions[request.model_name].run(["mask"], {"image": batch})
    response = pb.ModelInferResponse(model_name=request.model_name)
    response.outputs.add(name="mask", datatype="UINT8", shape=mask.shape)
    response.raw_output_contents.append(mask.tobytes())
    return response


def main() -> None:
    """Serves until killed."""
    port, student, null = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in (("student", student), ("null", null))
    }
    server = grpc.server(ThreadPoolExecutor(THREADS))
    infer = grpc.unary_unary_rpc_method_handler(
        lambda request, _: answer(sessions, request),
        pb.ModelInferRequest.FromString,
        pb.ModelInferResponse.SerializeToString,
    )
    methods = {"ModelInfer": infer}
    handlers = [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)]
    server.add_generic_rpc_handlers(handlers)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
