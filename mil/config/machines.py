"""Machines for `mil plan --cost`: the yaml files of configs/machines."""

from typing import Literal

from pydantic import Field

from mil.config.base import Section, checked, named_file
from mil.config.encoders import Positive
from mil.config.yaml_file import read_yaml

MAX_DEVICES = 1_000_000


class EncoderRate(Section):
    """Rate of an encoder on one kind of device of a machine."""

    device: Literal["cpu", "gpu"] = Field(description="Device that the rate is of.")
    tiles_per_s: Positive = Field(
        description="Tiles a second of one core, or of one GPU; the encoder alone."
    )
    source: str = Field(description="Command or page that the rate comes from.")


class Rate(Section):
    """One measured number and where it comes from."""

    value: Positive = Field(description="The number, in the unit that its key names.")
    source: str = Field(description="Command or page that the number comes from.")


class MachineConfig(Section):
    """One yaml of configs/machines; a number that is left out is unknown, never guessed."""

    title: str = Field(description="Name of the machine for people.")
    cores: int = Field(gt=0, le=MAX_DEVICES, description="Number of CPU cores.")
    gpus: int = Field(0, ge=0, le=MAX_DEVICES, description="Number of GPUs.")
    tile_core_s: Rate | None = Field(
        None, description="Seconds of one core to tile a slide (`mil bench tile`, cpu)."
    )
    read_tiles_per_s: Rate | None = Field(
        None, description="Tiles that one core reads a second (`mil bench features`, reading)."
    )
    encoders: dict[str, EncoderRate] = Field({}, description="Rate of each encoder, by its name.")
    download_mb_per_s: Rate | None = Field(
        None, description="Megabytes a second from the store of the slides."
    )
    currency: str = Field("", description="Currency of the prices.")
    price_core_hour: Rate | None = Field(None, description="Price of a core for an hour.")
    price_gpu_hour: Rate | None = Field(None, description="Price of a GPU for an hour.")
    price_egress_gb: Rate | None = Field(
        None, description="Price of a gigabyte that leaves the store of the slides."
    )
    price_disk_gb_month: Rate | None = Field(
        None, description="Price of a gigabyte of disk for a month."
    )


def load_machine(name: str) -> MachineConfig:
    """Read and check a machine.

    Args:
        name: Name of a yaml in configs/machines, or its path.

    Raises:
        ConfigError: There is no such file, or it is wrong.
    """
    path = named_file("machines", name, "machine")
    return checked(MachineConfig, read_yaml(path), str(path))
