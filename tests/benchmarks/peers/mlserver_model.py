"""A student behind MLServer, which loads this class by its name."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Student(MLModel):
    """Runs the ONNX file that its settings name."""

    async def load(self) -> bool:
        """Opens the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The mask of the batch."""
        batch = NumpyCodec.decode_input(payload.inputs[0])
        [mask] = self._session.run(["mask"], {"image": batch})
        output = NumpyCodec.encode_output("mask", np.ascontiguousarray(mask))
        return InferenceResponse(model_name=self.name, outputs=[output])
