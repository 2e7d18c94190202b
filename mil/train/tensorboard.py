"""Training curves for TensorBoard."""

from pathlib import Path
from typing import Any

from mil.config import TrainConfig
from mil.errors import ConfigError
from mil.train.optim import learning_rate
from mil.train.state import History


class TensorBoardWriter:
    """Writes `train/TERM`, `valid/METRIC` and `lr` of each epoch.

    Args:
        folder: Folder of one training. Points of a resumed training replace earlier
            ones of the same epochs in the curves.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        # Imported here: an optional dependency, and slow to import.
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "--tensorboard: TensorBoard is not installed; pip install 'mil[tensorboard]'"
            ) from None
        self._writer: Any = SummaryWriter(str(folder))
        self._num_written = 0

    def write(self, history: History, config: TrainConfig) -> None:
        """Write the epochs that are new since the last call."""
        for epoch in range(self._num_written, len(history.train)):
            # The learning rate at the end of the epoch, as its losses are by then.
            values = {"lr": learning_rate(config, epoch + 1.0)}
            values |= {f"train/{name}": value for name, value in history.train[epoch].items()}
            values |= {f"valid/{name}": value for name, value in history.valid[epoch].items()}
            for name, value in values.items():
                self._writer.add_scalar(name, value, epoch + 1)
        self._num_written = len(history.train)
        # A killed training keeps the curves of its epochs.
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
