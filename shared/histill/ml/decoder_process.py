"""The processes that decode: a nursery that has loaded everything, and what it forks.

``python -I -m histill.ml.decoder_process MEMORY_BYTES CPU_S`` with one end of a connection as
its standard input. For each message with a descriptor in it the nursery forks a decoder that
serves that descriptor, so that a fresh one takes milliseconds. The nursery reads no file
itself; it ends when its parent does, which closes the connection, and its decoders with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from typing import NoReturn

import PIL.Image

from histill.ml import decoder_wire
from histill.ml.confinement import Budget, begin_task, confine, hide
from histill.ml.decoder_tasks import Tasks
from histill.ml.decoder_wire import WireError
from histill.ml.quiet import quiet_decoders

# What decoders load on their way otherwise, each of them anew. The plugins of pydicom and
# the codecs of imagecodecs are modules that load with their first use.
_AHEAD = (
    "highdicom",
    "imagecodecs._jpeg2k",
    "imagecodecs._jpeg8",
    "imagecodecs._shared",
    "imagecodecs._zlib",
    "jpeg_ls",
    "openslide",
    "PIL.Jpeg2KImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
    "pydicom.pixels.decoders",
    "upath",
    "wsidicom",
)


def main() -> NoReturn:
    """Forks decoders until nobody asks for them any more."""
    budget = Budget(memory_bytes=int(sys.argv[1]), cpu_s=int(sys.argv[2]))
    hide()
    control = socket.socket(fileno=0)
    for name in _AHEAD:
        # Which of them are installed is for the others to say, when they are needed.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    quiet_decoders()
    # Pillow has one limit for all, below ours, which are checked before.
    PIL.Image.MAX_IMAGE_PIXELS = None
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    # What is never freed is never written to either, and so stays shared.
    gc.freeze()
    nursery = os.getpid()
    while True:
        try:
            _, files = decoder_wire.receive(control)
        except WireError:
            os._exit(0)
        if files and os.fork() == 0:
            _decoder(control, files[0], budget, nursery)
        decoder_wire.close(files)


def _decoder(control: socket.socket, file: int, budget: Budget, parent: int) -> NoReturn:
    code = 1
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Libraries print what they find in files.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        confine(budget, parent=parent)
        _serve(socket.socket(fileno=file), budget)
        code = 0
    finally:
        # Whatever happened: nothing returns into the nursery's loop, or tells of a file.
        os._exit(code)


def _serve(end: socket.socket, budget: Budget) -> None:
    tasks = Tasks()
    decoder_wire.send(end, {"pid": os.getpid()})
    with contextlib.suppress(WireError):
        while True:
            message, files = decoder_wire.receive(end)
            begin_task(budget)
            if message["do"] == "close":
                tasks.close()
                decoder_wire.close(files)
                continue
            try:
                answer, file = tasks.answer(message, files)
            finally:
                decoder_wire.close(files)
            decoder_wire.send(end, answer, *([] if file is None else [file]))
            if file is not None:
                os.close(file)


if __name__ == "__main__":
    main()
