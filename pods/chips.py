"""Figures of TPU chips, from Google Cloud's documentation, for floors and fits.

Sources, read in 2026:
  v4   https://cloud.google.com/tpu/docs/v4: 275 TFLOPs, 32 GiB at 1200 GBps; the page gives no
       interconnect a chip, so its all-reduce bandwidth a pod (1.1 PB/s) over 4096 chips stands in.
  v5e  https://cloud.google.com/tpu/docs/v5e: 197 TFLOPs, 16 GB at 819 GBps, interconnect 400 GBps
       a chip in both directions together; 6.4 Tbps of data-centre network a pod of 256 chips.
  v5p  https://cloud.google.com/tpu/docs/v5p: 459 TFLOPs, 95 GB at 2765 GBps, 1200 GBps; 50 Gbps of
       data-centre network a chip.
  v6e  https://cloud.google.com/tpu/docs/v6e: 918 TFLOPs, 32 GB at 1638 GBps, 800 GBps.
Capacities are taken as GiB: libtpu's compiler itself says 15.75G are to be had of v5e's 16.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip.

  Attributes:
    flops: peak bfloat16 FLOP/s.
    hbm_bytes: capacity.
    hbm_bandwidth: bytes/s.
    interconnect: bytes/s that a chip can send inside a slice, all links, one direction.
    options: what libtpu must be told to see one device a chip.
  """

  flops: float
  hbm_bytes: int
  hbm_bandwidth: float
  interconnect: float
  options: tuple[tuple[str, str], ...] = ()


CHIPS = {
  'v4': Chip(275e12, 32 * GIB, 1200e9, 1.1e15 / 4096, (('chip_config_name', 'megacore'),)),
  'v5e': Chip(197e12, 16 * GIB, 819e9, 200e9),
  'v5p': Chip(459e12, 95 * GIB, 2765e9, 600e9),
  'v6e': Chip(918e12, 32 * GIB, 1638e9, 400e9),
}
