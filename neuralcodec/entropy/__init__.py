"""Entropy coding: skip masks, integer tables and rANS (bitstream_spec/entropy.md).

The only room that knows constriction. Only numpy integer arrays cross its border, so that nothing computed in floating
point can reach the coder.
"""

from neuralcodec.entropy.backend import backend_name
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder, Grouping
from neuralcodec.entropy.latents import Elements, code_latent, decode_elements, decode_latent
from neuralcodec.entropy.mask_choice import MaskChoice, choose_mask
from neuralcodec.entropy.masks import MaskMode, pack_mask_mode, read_mask, unpack_mask_mode, write_mask
from neuralcodec.entropy.quantisation import quantise
from neuralcodec.entropy.tables import MAX_SYMBOL, RADIUS, SCALES, TABLE_COUNT, TABLES_SHA256, cost_bits

__all__ = [
    "MAX_SYMBOL",
    "RADIUS",
    "SCALES",
    "TABLES_SHA256",
    "TABLE_COUNT",
    "Elements",
    "FrameDecoder",
    "FrameEncoder",
    "Grouping",
    "MaskChoice",
    "MaskMode",
    "backend_name",
    "choose_mask",
    "code_latent",
    "cost_bits",
    "decode_elements",
    "decode_latent",
    "pack_mask_mode",
    "quantise",
    "read_mask",
    "unpack_mask_mode",
    "write_mask",
]
