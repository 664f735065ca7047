"""Triton's own client against a service: ``triton.py TARGET MODEL IMAGES``, JSON out.

It runs in a virtual environment of its own: its generated protobuf code has the names
of ours.
"""

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException


def image_input(module: Any, batch: np.ndarray) -> Any:
    """The tensor ``image`` in one of the two flavours of the client."""
    tensor = module.InferInput("image", list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    return tensor


def refused(call: Any) -> str:
    """The words with which a call fails."""
    try:
        call()
    except InferenceServerException as exc:
        return f"{exc.status()}: {exc.message()}"
    return "it was not"


def asked(target: str, model: str, batch: np.ndarray) -> dict[str, Any]:
    """Everything that the blocking client can ask of us."""
    client = blocking.InferenceServerClient(target)
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(model, as_json=True),
        "config": client.get_model_config(model, as_json=True),
    }
    outputs = [blocking.InferRequestedOutput(name) for name in ("mask", "confidence")]
    answer = client.infer(
        model,
        [image_input(blocking, batch)],
        outputs=outputs,
        request_id="one",
        priority=1,
        timeout=5_000_000,
    )
    mask, confidence = answer.as_numpy("mask"), answer.as_numpy("confidence")
    found["id"] = answer.get_response().id
    found["mask"] = [str(mask.dtype), list(mask.shape), float(mask.mean())]
    found["confidence"] = [str(confidence.dtype), list(confidence.shape), float(confidence.min())]
    wrong = blocking.InferInput("image", [1, 4, 4, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 4, 4, 3), np.float32))
    found["wrong_type"] = refused(lambda: client.infer(model, [wrong]))
    found["unknown"] = refused(lambda: client.get_model_metadata("nobody"))
    found["no_shared_memory"] = refused(client.get_system_shared_memory_status)
    found["statistics"] = client.get_inference_statistics(model, as_json=True)
    found["unloaded"] = refused(lambda: client.unload_model(model))
    found["states"] = {}
    for change in (client.unload_model, client.load_model):
        change(f"{model}-spare")
        index = client.get_model_repository_index(as_json=True)["models"]
        states = {each["name"]: each["state"] for each in index}
        found["states"][change.__name__] = states[f"{model}-spare"]
    found["stream"] = streamed(client, model, batch, wrong)
    client.close()
    return found


def streamed(client: Any, model: str, batch: np.ndarray, wrong: Any) -> list[Any]:
    """Answers of a stream of three requests, of which the second is wrong."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, tensor in enumerate(
        (image_input(blocking, batch), wrong, image_input(blocking, batch[:1]))
    ):
        client.async_stream_infer(model, [tensor], request_id=str(number))
    found = []
    for _ in range(3):
        result, error = answers.get(timeout=20)
        if error is None:
            found.append([result.get_response().id, list(result.as_numpy("mask").shape)])
        else:
            found.append(error.message())
    client.stop_stream()
    return found


async def asked_at_once(target: str, model: str, batch: np.ndarray) -> int:
    """How many of several requests at a time the asyncio client has answered."""
    async with aio.InferenceServerClient(target) as client:
        calls = [client.infer(model, [image_input(aio, batch)]) for _ in range(4)]
        answers = await asyncio.gather(*calls)
    return sum(answer.as_numpy("mask").shape == batch.shape[:3] for answer in answers)


def main() -> None:
    """Asks, and prints what came."""
    target, model, path = sys.argv[1:]
    batch = np.load(path)
    found = asked(target, model, batch)
    found["at_once"] = asyncio.run(asked_at_once(target, model, batch))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
