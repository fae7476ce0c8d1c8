meta:
  id: nvc
  title: neuralcodec video container
  file-extension: nvc
  license: CC0-1.0
  ks-version: '0.10'
  encoding: UTF-8
  endian: le
  bit-endian: be
doc: |
  Container of the learned video codec "neuralcodec", format version 1. The prose in container.md rules; this description
  covers undamaged files and does not compute the CRCs.
seq:
  - id: header
    type: stream_header
  - id: packets
    type: packet
    repeat: until
    repeat-until: _.type == packet_type::end or _io.eof
enums:
  packet_type:
    1: gop
    2: frame_i
    3: frame_p
    4: side
    5: index
    6: end
    7: header_copy
    8: tile
    9: alpha
    10: attachment
    11: chroma
    12: frames
    13: unknown
types:
  uvar_group:
    seq:
      - id: more
        type: b1
      - id: bits
        type: b7
  uvar:
    doc: Unsigned LEB128, at most 9 bytes, shortest form.
    seq:
      - id: groups
        type: uvar_group
        repeat: until
        repeat-until: not _.more
    instances:
      value:
        value: >-
          groups[0].bits
          + (groups.size > 1 ? groups[1].bits << 7 : 0)
          + (groups.size > 2 ? groups[2].bits << 14 : 0)
          + (groups.size > 3 ? groups[3].bits << 21 : 0)
          + (groups.size > 4 ? groups[4].bits << 28 : 0)
          + (groups.size > 5 ? groups[5].bits << 35 : 0)
          + (groups.size > 6 ? groups[6].bits << 42 : 0)
          + (groups.size > 7 ? groups[7].bits << 49 : 0)
          + (groups.size > 8 ? groups[8].bits << 56 : 0)
  svar:
    doc: Signed integer v, sent as the uvar 2v for v >= 0, -2v - 1 for v < 0.
    seq:
      - id: sent
        type: uvar
    instances:
      value:
        value: '(sent.value & 1) == 0 ? (sent.value >> 1) : (-(sent.value >> 1) - 1)'
  text:
    seq:
      - id: len_value
        type: uvar
      - id: value
        type: str
        size: len_value.value
  blob:
    seq:
      - id: len_value
        type: uvar
      - id: value
        size: len_value.value
  ratio:
    seq:
      - id: numerator
        type: uvar
      - id: denominator
        type: uvar
  pair:
    seq:
      - id: key
        type: text
      - id: value
        type: text
  pairs:
    seq:
      - id: num_items
        type: uvar
      - id: items
        type: pair
        repeat: expr
        repeat-expr: num_items.value
  stream_header:
    seq:
      - id: signature
        contents: [0x89, NVC, 0x0d, 0x0a, 0x1a, 0x0a]
      - id: version_major
        type: u1
        valid: 1
      - id: version_minor
        type: u1
      - id: len_body
        type: u4
      - id: body
        size: len_body
        type:
          switch-on: is_bare
          cases:
            true: bare_header
            false: header
      - id: crc
        type: u4
        doc: CRC-32C of all bytes of the header before it.
    instances:
      features:
        pos: 14
        type: uvar
      is_bare:
        value: (features.value & 64) != 0
  header:
    seq:
      - id: required_features
        type: uvar
      - id: width
        type: uvar
      - id: height
        type: uvar
      - id: pixel_format
        type: u1
        valid: {max: 2}
      - id: time_base
        type: ratio
      - id: frame_rate
        type: ratio
      - id: primaries
        type: u1
      - id: transfer
        type: u1
      - id: matrix
        type: u1
      - id: full_range
        type: u1
        valid: {max: 2}
      - id: chroma_location
        type: u1
        valid: {max: 15}
      - id: sample_aspect_ratio
        type: ratio
      - id: rotation
        type: u1
        valid: {max: 3}
      - id: still
        type: u1
        valid: {max: 1}
      - id: model_id
        size: 32
      - id: model_name
        type: text
      - id: arithmetic
        type: u1
        valid: {max: 1}
      - id: level
        type: u1
        valid: {min: 1, max: 16}
      - id: level_locked
        type: u1
        valid: {max: 1}
      - id: width_tables
        type: width_tables
      - id: gop_size
        type: uvar
      - id: quality
        type: u1
        valid: {max: 200}
      - id: side_streams
        type: side_streams
      - id: metadata
        type: pairs
      - id: chapters
        type: chapters
      - id: encoder
        type: text
      - id: tile_units
        type: u1
        valid: {min: 1, max: 32}
        if: (required_features.value & 1) != 0
  bare_header:
    doc: Of a picture without other packets than one of type frame_i.
    seq:
      - id: required_features
        type: uvar
      - id: width
        type: uvar
      - id: height
        type: uvar
      - id: pixel_format
        type: u1
        valid: {max: 1}
      - id: primaries
        type: u1
      - id: transfer
        type: u1
      - id: matrix
        type: u1
      - id: full_range
        type: u1
        valid: {max: 2}
      - id: chroma_location
        type: u1
        valid: {max: 15}
      - id: rotation
        type: u1
        valid: {max: 3}
      - id: model_key
        size: 8
      - id: arithmetic
        type: u1
        valid: {max: 1}
      - id: level
        type: u1
        valid: {min: 1, max: 16}
      - id: level_locked
        type: u1
        valid: {max: 1}
      - id: quality
        type: u1
        valid: {max: 200}
  width_tables:
    seq:
      - id: num_levels
        type: u1
        valid: {min: 1, max: 16}
      - id: num_entries
        type: uvar
      - id: tables
        size: (num_entries.value + 3) / 4
        repeat: expr
        repeat-expr: num_levels
        doc: Entries of two bits, the first in the lowest bits of the first byte.
  side_streams:
    seq:
      - id: num_items
        type: uvar
      - id: items
        type: side_stream
        repeat: expr
        repeat-expr: num_items.value
  side_stream:
    seq:
      - id: kind
        type: text
      - id: codec
        type: text
      - id: time_base
        type: ratio
      - id: extradata
        type: blob
      - id: disposition
        type: uvar
      - id: parameters
        type: pairs
      - id: metadata
        type: pairs
  chapters:
    seq:
      - id: num_items
        type: uvar
      - id: items
        type: chapter
        repeat: expr
        repeat-expr: num_items.value
  chapter:
    seq:
      - id: time_base
        type: ratio
      - id: start
        type: svar
      - id: end
        type: svar
      - id: metadata
        type: pairs
  packet:
    seq:
      - id: type
        type: b4
        enum: packet_type
      - id: flags
        type: b4
      - id: len_body
        type: uvar
      - id: body
        size: len_body.value
        type:
          switch-on: 'type.to_i < 8 or type == packet_type::frames or _root.header.is_bare or _root.header.body.as<header>.still == 1 ? type : packet_type::unknown'
          cases:
            packet_type::gop: gop
            packet_type::frame_i: frame
            packet_type::frame_p: frame
            packet_type::side: side
            packet_type::index: index
            packet_type::end: end
            packet_type::header_copy: stream_header
            packet_type::tile: tile
            packet_type::alpha: alpha
            packet_type::attachment: attachment
            packet_type::chroma: chroma
            packet_type::frames: frames
      - id: crc
        type: u4
        doc: CRC-32C of all bytes of the packet before it.
  gop:
    seq:
      - id: marker
        contents: [0xd3, 0xa1, 0xf5, 0x8b, 0x0c, 0xe6, 0x92, 0xb7]
      - id: first_frame
        type: uvar
      - id: pts
        type: svar
      - id: frame_step
        type: uvar
      - id: frame_duration
        type: uvar
      - id: quality
        type: u1
        valid: {max: 200}
  frame:
    seq:
      - id: decode_order
        type: u1
      - id: pts_difference
        type: svar
        if: (_parent.as<packet>.flags & 1) != 0
      - id: duration_difference
        type: svar
        if: (_parent.as<packet>.flags & 1) != 0
      - id: display_difference
        type: svar
        if: (_parent.as<packet>.flags & 2) != 0
      - id: num_references
        type: uvar
        if: (_parent.as<packet>.flags & 2) != 0
      - id: references
        type: uvar
        repeat: expr
        repeat-expr: num_references.value
        if: (_parent.as<packet>.flags & 2) != 0
      - id: quality
        type: u1
        valid: {max: 200}
        if: (_parent.as<packet>.flags & 4) != 0
      - id: extension
        type: blob
        if: (_parent.as<packet>.flags & 8) != 0
      - id: modes
        type: modes
      - id: payload
        size-eos: true
  frames:
    seq:
      - id: decode_order
        type: u1
      - id: records
        type: frame_record
        repeat: eos
  frame_record:
    seq:
      - id: head
        type: uvar
      - id: body
        size: head.value >> 4
        doc: A frame without its decode_order, with the flags of this record.
    instances:
      flags:
        value: head.value & 15
  modes:
    seq:
      - id: head
        type: u1
      - id: parameters
        type: u1
        valid: {max: 63}
        repeat: expr
        repeat-expr: '(mode_0 != 0 ? 1 : 0) + (mode_1 != 0 ? 1 : 0) + (mode_2 != 0 ? 1 : 0)'
    instances:
      num_modes:
        value: head & 3
      mode_0:
        value: (head >> 2) & 3
      mode_1:
        value: (head >> 4) & 3
      mode_2:
        value: (head >> 6) & 3
  side:
    seq:
      - id: stream
        type: uvar
      - id: pts
        type: svar
        if: (_parent.as<packet>.flags & 2) != 0
      - id: dts
        type: svar
        if: (_parent.as<packet>.flags & 4) != 0
        doc: Less pts, where that is present.
      - id: duration
        type: uvar
      - id: data
        size-eos: true
    instances:
      keyframe:
        value: (_parent.as<packet>.flags & 1) != 0
  index:
    seq:
      - id: frame_count
        type: uvar
      - id: duration
        type: uvar
      - id: header_distance
        type: uvar
      - id: num_entries
        type: uvar
      - id: entries
        type: index_entry
        repeat: expr
        repeat-expr: num_entries.value
  index_entry:
    seq:
      - id: offset_difference
        type: uvar
      - id: frames_before
        type: uvar
      - id: pts_difference
        type: svar
  end:
    seq:
      - id: marker
        contents: [0x9c, 0x17, 0xe6, 0xda, 0x83, 0x5f, 0xb2, 0x2e]
      - id: index_distance
        type: u8
  tile:
    seq:
      - id: number
        type: uvar
      - id: modes
        type: modes
      - id: payload
        size-eos: true
  alpha:
    seq:
      - id: number
        type: uvar
      - id: quality
        type: u1
        valid: {max: 200}
      - id: modes
        type: modes
      - id: payload
        size-eos: true
  chroma:
    seq:
      - id: number
        type: uvar
      - id: plane
        type: u1
        valid: {min: 1, max: 2}
      - id: modes
        type: modes
      - id: payload
        size-eos: true
  attachment:
    seq:
      - id: kind
        type: u1
      - id: data
        size-eos: true
