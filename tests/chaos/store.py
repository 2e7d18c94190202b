"""The store of the slides: a bucket on the loopback interface that stops answering in mid-run."""

import csv
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mil.config.base import SHIPPED
from tests.chaos.study import DATASET, Study
from tests.fetch.s3 import Line, bucket_with, environment

BUCKET = "slides"
# Slides that are not on the disk when the run begins.
FETCHED = ("mini_01", "mini_02", "mini_03")


@dataclass
class MortalLine(Line):
    """A line that is dead once it has cut all answers that it was told to cut.

    Attributes:
        is_mortal: Whether it dies.
    """

    is_mortal: bool = False

    @property
    def is_dead(self) -> bool:
        """Whether nothing passes."""
        return self.is_mortal and not self.cuts

    def die_after(self, sent_bytes: int) -> None:
        """Die when so many bytes of a file have passed."""
        self.forget()
        self.cuts.append(sent_bytes)
        self.is_mortal = True

    def revive(self) -> None:
        """Let everything pass again."""
        self.is_mortal = False
        self.forget()

    def _forward(self, client: socket.socket) -> None:
        if self.is_dead:
            client.close()
        else:
            super()._forward(client)


@contextmanager
def remote_slides(study: Study) -> Iterator[Study]:
    """The study with a table that names a bucket, which has some of its slides alone.

    Args:
        study: Study with all of its slides.
    """
    slides = study.folder / "data" / DATASET
    files = {f"{name}.tif": (slides / f"{name}.tif").read_bytes() for name in FETCHED}
    for name in files:
        (slides / name).unlink()
    _write_table(study.folder)
    # The server tells each request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with bucket_with(BUCKET, files) as server:
        line = MortalLine(server)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=line.serve, args=(listener,), daemon=True).start()
            endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
            variables = {
                name: value
                for name, value in environment(endpoint).items()
                if "AWS" in name or name == "no_proxy"
            }
            yield Study(study.folder, study.config, variables, line)
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _write_table(folder: Path) -> None:
    """A slide table of the study's own, whose slides are in the bucket."""
    shipped = SHIPPED / "configs/datasets"
    own = folder / "configs/datasets"
    own.mkdir(parents=True)
    (own / f"{DATASET}.yaml").write_bytes((shipped / f"{DATASET}.yaml").read_bytes())
    with (shipped / f"{DATASET}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (own / f"{DATASET}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            url = f"s3://{BUCKET}/{row['path']}"
            writer.writerow({**row, "url": url, "annotation_url": ""})
