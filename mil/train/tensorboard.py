"""Curves of a training for TensorBoard, where they are asked for."""

from pathlib import Path
from typing import Any

from mil.config import TrainConfig
from mil.errors import ConfigError
from mil.train.schedule import learning_rate
from mil.train.state import History


class Board:
    """Writes each epoch's numbers once: `train/TERM`, `valid/METRIC` and `lr`, its learning rate at the end.

    Args:
        folder: of one training; what it holds of the same epochs is overwritten in the
            picture.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "--tensorboard: it is not installed here; pip install 'mil[tensorboard]'"
            ) from None
        self._writer: Any = SummaryWriter(str(folder))
        self._written = 0

    def write(self, history: History, config: TrainConfig) -> None:
        """Write the epochs that are new."""
        for epoch in range(self._written, len(history.train)):
            numbers = {"lr": learning_rate(config, epoch + 1.0)}
            numbers |= {f"train/{name}": value for name, value in history.train[epoch].items()}
            numbers |= {f"valid/{name}": value for name, value in history.valid[epoch].items()}
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, epoch + 1)
        self._written = len(history.train)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
