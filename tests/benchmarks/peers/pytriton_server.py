"""A student behind PyTriton: ``pytriton_server.py PORT STUDENT.onnx NULL.onnx``."""

import sys
from collections.abc import Callable

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

WORKERS = 2


def served(path: str) -> Callable[..., dict[str, np.ndarray]]:
    """A function in which PyTriton runs one worker."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @batch
    def infer(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"mask": session.run(["mask"], {"image": image})[0]}

    return infer


def main() -> None:
    """Serves until killed."""
    port, student, null = int(sys.argv[1]), *sys.argv[2:]
    config = TritonConfig(
        grpc_port=port, http_port=port + 1, metrics_port=port + 2, grpc_address="127.0.0.1"
    )
    with Triton(config=config) as triton:
        for name, path in (("student", student), ("null", null)):
            triton.bind(
                name,
                [served(path) for _ in range(WORKERS)],
                inputs=[Tensor(name="image", dtype=np.uint8, shape=(-1, -1, 3))],
                outputs=[Tensor(name="mask", dtype=np.uint8, shape=(-1, -1))],
                config=ModelConfig(max_batch_size=8, batcher=DynamicBatcher()),
            )
        triton.serve()


if __name__ == "__main__":
    main()
