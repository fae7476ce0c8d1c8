# ruff: noqa
# This is a generated file! Please edit source .ksy file and use kaitai-struct-compiler to rebuild
# type: ignore

import kaitaistruct
from kaitaistruct import KaitaiStruct, KaitaiStream, BytesIO
from enum import IntEnum


if getattr(kaitaistruct, 'API_VERSION', (0, 9)) < (0, 11):
    raise Exception("Incompatible Kaitai Struct Python API: 0.11 or later is required, but you have %s" % (kaitaistruct.__version__))

class Nvc(KaitaiStruct):
    """Container of the learned video codec "neuralcodec", format version 1. The prose in container.md rules; this description
    covers undamaged files and does not compute the CRCs.
    """

    class PacketType(IntEnum):
        gop = 1
        frame_i = 2
        frame_p = 3
        side = 4
        index = 5
        end = 6
        header_copy = 7
        tile = 8
        alpha = 9
        attachment = 10
        chroma = 11
        frames = 12
        unknown = 13
    def __init__(self, _io, _parent=None, _root=None):
        super(Nvc, self).__init__(_io)
        self._parent = _parent
        self._root = _root or self
        self._read()

    def _read(self):
        self.header = Nvc.StreamHeader(self._io, self, self._root)
        self.packets = []
        i = 0
        while True:
            _ = Nvc.Packet(self._io, self, self._root)
            self.packets.append(_)
            if  ((_.type == Nvc.PacketType.end) or (self._io.is_eof())) :
                break
            i += 1


    def _fetch_instances(self):
        pass
        self.header._fetch_instances()
        for i in range(len(self.packets)):
            pass
            self.packets[i]._fetch_instances()


    class Alpha(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Alpha, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.number = Nvc.Uvar(self._io, self, self._root)
            self.quality = self._io.read_u1()
            if not self.quality <= 200:
                raise kaitaistruct.ValidationGreaterThanError(200, self.quality, self._io, u"/types/alpha/seq/1")
            self.modes = Nvc.Modes(self._io, self, self._root)
            self.payload = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            self.number._fetch_instances()
            self.modes._fetch_instances()


    class Attachment(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Attachment, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.kind = self._io.read_u1()
            self.data = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass


    class BareHeader(KaitaiStruct):
        """Of a picture without other packets than one of type frame_i."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.BareHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.required_features = Nvc.Uvar(self._io, self, self._root)
            self.width = Nvc.Uvar(self._io, self, self._root)
            self.height = Nvc.Uvar(self._io, self, self._root)
            self.pixel_format = self._io.read_u1()
            if not self.pixel_format <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.pixel_format, self._io, u"/types/bare_header/seq/3")
            self.primaries = self._io.read_u1()
            self.transfer = self._io.read_u1()
            self.matrix = self._io.read_u1()
            self.full_range = self._io.read_u1()
            if not self.full_range <= 2:
                raise kaitaistruct.ValidationGreaterThanError(2, self.full_range, self._io, u"/types/bare_header/seq/7")
            self.chroma_location = self._io.read_u1()
            if not self.chroma_location <= 15:
                raise kaitaistruct.ValidationGreaterThanError(15, self.chroma_location, self._io, u"/types/bare_header/seq/8")
            self.rotation = self._io.read_u1()
            if not self.rotation <= 3:
                raise kaitaistruct.ValidationGreaterThanError(3, self.rotation, self._io, u"/types/bare_header/seq/9")
            self.model_key = self._io.read_bytes(8)
            self.arithmetic = self._io.read_u1()
            if not self.arithmetic <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.arithmetic, self._io, u"/types/bare_header/seq/11")
            self.level = self._io.read_u1()
            if not self.level >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.level, self._io, u"/types/bare_header/seq/12")
            if not self.level <= 16:
                raise kaitaistruct.ValidationGreaterThanError(16, self.level, self._io, u"/types/bare_header/seq/12")
            self.level_locked = self._io.read_u1()
            if not self.level_locked <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.level_locked, self._io, u"/types/bare_header/seq/13")
            self.quality = self._io.read_u1()
            if not self.quality <= 200:
                raise kaitaistruct.ValidationGreaterThanError(200, self.quality, self._io, u"/types/bare_header/seq/14")


        def _fetch_instances(self):
            pass
            self.required_features._fetch_instances()
            self.width._fetch_instances()
            self.height._fetch_instances()


    class Blob(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Blob, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.len_value = Nvc.Uvar(self._io, self, self._root)
            self.value = self._io.read_bytes(self.len_value.value)


        def _fetch_instances(self):
            pass
            self.len_value._fetch_instances()


    class Chapter(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Chapter, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.time_base = Nvc.Ratio(self._io, self, self._root)
            self.start = Nvc.Svar(self._io, self, self._root)
            self.end = Nvc.Svar(self._io, self, self._root)
            self.metadata = Nvc.Pairs(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.time_base._fetch_instances()
            self.start._fetch_instances()
            self.end._fetch_instances()
            self.metadata._fetch_instances()


    class Chapters(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Chapters, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.num_items = Nvc.Uvar(self._io, self, self._root)
            self.items = []
            for i in range(self.num_items.value):
                self.items.append(Nvc.Chapter(self._io, self, self._root))



        def _fetch_instances(self):
            pass
            self.num_items._fetch_instances()
            for i in range(len(self.items)):
                pass
                self.items[i]._fetch_instances()



    class Chroma(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Chroma, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.number = Nvc.Uvar(self._io, self, self._root)
            self.plane = self._io.read_u1()
            if not self.plane >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.plane, self._io, u"/types/chroma/seq/1")
            if not self.plane <= 2:
                raise kaitaistruct.ValidationGreaterThanError(2, self.plane, self._io, u"/types/chroma/seq/1")
            self.modes = Nvc.Modes(self._io, self, self._root)
            self.payload = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            self.number._fetch_instances()
            self.modes._fetch_instances()


    class End(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.End, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.marker = self._io.read_bytes(8)
            if not self.marker == b"\x9C\x17\xE6\xDA\x83\x5F\xB2\x2E":
                raise kaitaistruct.ValidationNotEqualError(b"\x9C\x17\xE6\xDA\x83\x5F\xB2\x2E", self.marker, self._io, u"/types/end/seq/0")
            self.index_distance = self._io.read_u8le()


        def _fetch_instances(self):
            pass


    class Frame(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Frame, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.decode_order = self._io.read_u1()
            if self._parent.flags & 1 != 0:
                pass
                self.pts_difference = Nvc.Svar(self._io, self, self._root)

            if self._parent.flags & 1 != 0:
                pass
                self.duration_difference = Nvc.Svar(self._io, self, self._root)

            if self._parent.flags & 2 != 0:
                pass
                self.display_difference = Nvc.Svar(self._io, self, self._root)

            if self._parent.flags & 2 != 0:
                pass
                self.num_references = Nvc.Uvar(self._io, self, self._root)

            if self._parent.flags & 2 != 0:
                pass
                self.references = []
                for i in range(self.num_references.value):
                    self.references.append(Nvc.Uvar(self._io, self, self._root))


            if self._parent.flags & 4 != 0:
                pass
                self.quality = self._io.read_u1()
                if not self.quality <= 200:
                    raise kaitaistruct.ValidationGreaterThanError(200, self.quality, self._io, u"/types/frame/seq/6")

            if self._parent.flags & 8 != 0:
                pass
                self.extension = Nvc.Blob(self._io, self, self._root)

            self.modes = Nvc.Modes(self._io, self, self._root)
            self.payload = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            if self._parent.flags & 1 != 0:
                pass
                self.pts_difference._fetch_instances()

            if self._parent.flags & 1 != 0:
                pass
                self.duration_difference._fetch_instances()

            if self._parent.flags & 2 != 0:
                pass
                self.display_difference._fetch_instances()

            if self._parent.flags & 2 != 0:
                pass
                self.num_references._fetch_instances()

            if self._parent.flags & 2 != 0:
                pass
                for i in range(len(self.references)):
                    pass
                    self.references[i]._fetch_instances()


            if self._parent.flags & 4 != 0:
                pass

            if self._parent.flags & 8 != 0:
                pass
                self.extension._fetch_instances()

            self.modes._fetch_instances()


    class FrameRecord(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.FrameRecord, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.head = Nvc.Uvar(self._io, self, self._root)
            self.body = self._io.read_bytes(self.head.value >> 4)


        def _fetch_instances(self):
            pass
            self.head._fetch_instances()

        @property
        def flags(self):
            if hasattr(self, '_m_flags'):
                return self._m_flags

            self._m_flags = self.head.value & 15
            return getattr(self, '_m_flags', None)


    class Frames(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Frames, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.decode_order = self._io.read_u1()
            self.records = []
            i = 0
            while not self._io.is_eof():
                self.records.append(Nvc.FrameRecord(self._io, self, self._root))
                i += 1



        def _fetch_instances(self):
            pass
            for i in range(len(self.records)):
                pass
                self.records[i]._fetch_instances()



    class Gop(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Gop, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.marker = self._io.read_bytes(8)
            if not self.marker == b"\xD3\xA1\xF5\x8B\x0C\xE6\x92\xB7":
                raise kaitaistruct.ValidationNotEqualError(b"\xD3\xA1\xF5\x8B\x0C\xE6\x92\xB7", self.marker, self._io, u"/types/gop/seq/0")
            self.first_frame = Nvc.Uvar(self._io, self, self._root)
            self.pts = Nvc.Svar(self._io, self, self._root)
            self.frame_step = Nvc.Uvar(self._io, self, self._root)
            self.frame_duration = Nvc.Uvar(self._io, self, self._root)
            self.quality = self._io.read_u1()
            if not self.quality <= 200:
                raise kaitaistruct.ValidationGreaterThanError(200, self.quality, self._io, u"/types/gop/seq/5")


        def _fetch_instances(self):
            pass
            self.first_frame._fetch_instances()
            self.pts._fetch_instances()
            self.frame_step._fetch_instances()
            self.frame_duration._fetch_instances()


    class Header(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Header, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.required_features = Nvc.Uvar(self._io, self, self._root)
            self.width = Nvc.Uvar(self._io, self, self._root)
            self.height = Nvc.Uvar(self._io, self, self._root)
            self.pixel_format = self._io.read_u1()
            if not self.pixel_format <= 2:
                raise kaitaistruct.ValidationGreaterThanError(2, self.pixel_format, self._io, u"/types/header/seq/3")
            self.time_base = Nvc.Ratio(self._io, self, self._root)
            self.frame_rate = Nvc.Ratio(self._io, self, self._root)
            self.primaries = self._io.read_u1()
            self.transfer = self._io.read_u1()
            self.matrix = self._io.read_u1()
            self.full_range = self._io.read_u1()
            if not self.full_range <= 2:
                raise kaitaistruct.ValidationGreaterThanError(2, self.full_range, self._io, u"/types/header/seq/9")
            self.chroma_location = self._io.read_u1()
            if not self.chroma_location <= 15:
                raise kaitaistruct.ValidationGreaterThanError(15, self.chroma_location, self._io, u"/types/header/seq/10")
            self.sample_aspect_ratio = Nvc.Ratio(self._io, self, self._root)
            self.rotation = self._io.read_u1()
            if not self.rotation <= 3:
                raise kaitaistruct.ValidationGreaterThanError(3, self.rotation, self._io, u"/types/header/seq/12")
            self.still = self._io.read_u1()
            if not self.still <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.still, self._io, u"/types/header/seq/13")
            self.model_id = self._io.read_bytes(32)
            self.model_name = Nvc.Text(self._io, self, self._root)
            self.arithmetic = self._io.read_u1()
            if not self.arithmetic <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.arithmetic, self._io, u"/types/header/seq/16")
            self.level = self._io.read_u1()
            if not self.level >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.level, self._io, u"/types/header/seq/17")
            if not self.level <= 16:
                raise kaitaistruct.ValidationGreaterThanError(16, self.level, self._io, u"/types/header/seq/17")
            self.level_locked = self._io.read_u1()
            if not self.level_locked <= 1:
                raise kaitaistruct.ValidationGreaterThanError(1, self.level_locked, self._io, u"/types/header/seq/18")
            self.width_tables = Nvc.WidthTables(self._io, self, self._root)
            self.gop_size = Nvc.Uvar(self._io, self, self._root)
            self.quality = self._io.read_u1()
            if not self.quality <= 200:
                raise kaitaistruct.ValidationGreaterThanError(200, self.quality, self._io, u"/types/header/seq/21")
            self.side_streams = Nvc.SideStreams(self._io, self, self._root)
            self.metadata = Nvc.Pairs(self._io, self, self._root)
            self.chapters = Nvc.Chapters(self._io, self, self._root)
            self.encoder = Nvc.Text(self._io, self, self._root)
            if self.required_features.value & 1 != 0:
                pass
                self.tile_units = self._io.read_u1()
                if not self.tile_units >= 1:
                    raise kaitaistruct.ValidationLessThanError(1, self.tile_units, self._io, u"/types/header/seq/26")
                if not self.tile_units <= 32:
                    raise kaitaistruct.ValidationGreaterThanError(32, self.tile_units, self._io, u"/types/header/seq/26")



        def _fetch_instances(self):
            pass
            self.required_features._fetch_instances()
            self.width._fetch_instances()
            self.height._fetch_instances()
            self.time_base._fetch_instances()
            self.frame_rate._fetch_instances()
            self.sample_aspect_ratio._fetch_instances()
            self.model_name._fetch_instances()
            self.width_tables._fetch_instances()
            self.gop_size._fetch_instances()
            self.side_streams._fetch_instances()
            self.metadata._fetch_instances()
            self.chapters._fetch_instances()
            self.encoder._fetch_instances()
            if self.required_features.value & 1 != 0:
                pass



    class Index(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Index, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.frame_count = Nvc.Uvar(self._io, self, self._root)
            self.duration = Nvc.Uvar(self._io, self, self._root)
            self.header_distance = Nvc.Uvar(self._io, self, self._root)
            self.num_entries = Nvc.Uvar(self._io, self, self._root)
            self.entries = []
            for i in range(self.num_entries.value):
                self.entries.append(Nvc.IndexEntry(self._io, self, self._root))



        def _fetch_instances(self):
            pass
            self.frame_count._fetch_instances()
            self.duration._fetch_instances()
            self.header_distance._fetch_instances()
            self.num_entries._fetch_instances()
            for i in range(len(self.entries)):
                pass
                self.entries[i]._fetch_instances()



    class IndexEntry(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.IndexEntry, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.offset_difference = Nvc.Uvar(self._io, self, self._root)
            self.frames_before = Nvc.Uvar(self._io, self, self._root)
            self.pts_difference = Nvc.Svar(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.offset_difference._fetch_instances()
            self.frames_before._fetch_instances()
            self.pts_difference._fetch_instances()


    class Modes(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Modes, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.head = self._io.read_u1()
            self.parameters = []
            for i in range(((1 if self.mode_0 != 0 else 0) + (1 if self.mode_1 != 0 else 0)) + (1 if self.mode_2 != 0 else 0)):
                self.parameters.append(self._io.read_u1())
                if not self.parameters[i] <= 63:
                    raise kaitaistruct.ValidationGreaterThanError(63, self.parameters[i], self._io, u"/types/modes/seq/1")



        def _fetch_instances(self):
            pass
            for i in range(len(self.parameters)):
                pass


        @property
        def mode_0(self):
            if hasattr(self, '_m_mode_0'):
                return self._m_mode_0

            self._m_mode_0 = self.head >> 2 & 3
            return getattr(self, '_m_mode_0', None)

        @property
        def mode_1(self):
            if hasattr(self, '_m_mode_1'):
                return self._m_mode_1

            self._m_mode_1 = self.head >> 4 & 3
            return getattr(self, '_m_mode_1', None)

        @property
        def mode_2(self):
            if hasattr(self, '_m_mode_2'):
                return self._m_mode_2

            self._m_mode_2 = self.head >> 6 & 3
            return getattr(self, '_m_mode_2', None)

        @property
        def num_modes(self):
            if hasattr(self, '_m_num_modes'):
                return self._m_num_modes

            self._m_num_modes = self.head & 3
            return getattr(self, '_m_num_modes', None)


    class Packet(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Packet, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.type = KaitaiStream.resolve_enum(Nvc.PacketType, self._io.read_bits_int_be(4))
            self.flags = self._io.read_bits_int_be(4)
            self.len_body = Nvc.Uvar(self._io, self, self._root)
            _on = (self.type if  ((int(self.type) < 8) or (self.type == Nvc.PacketType.frames) or (self._root.header.is_bare) or (self._root.header.body.still == 1))  else Nvc.PacketType.unknown)
            if _on == Nvc.PacketType.alpha:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Alpha(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.attachment:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Attachment(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.chroma:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Chroma(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.end:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.End(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.frame_i:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Frame(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.frame_p:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Frame(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.frames:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Frames(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.gop:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Gop(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.header_copy:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.StreamHeader(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.index:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Index(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.side:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Side(_io__raw_body, self, self._root)
            elif _on == Nvc.PacketType.tile:
                pass
                self._raw_body = self._io.read_bytes(self.len_body.value)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Tile(_io__raw_body, self, self._root)
            else:
                pass
                self.body = self._io.read_bytes(self.len_body.value)
            self.crc = self._io.read_u4le()


        def _fetch_instances(self):
            pass
            self.len_body._fetch_instances()
            _on = (self.type if  ((int(self.type) < 8) or (self.type == Nvc.PacketType.frames) or (self._root.header.is_bare) or (self._root.header.body.still == 1))  else Nvc.PacketType.unknown)
            if _on == Nvc.PacketType.alpha:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.attachment:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.chroma:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.end:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.frame_i:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.frame_p:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.frames:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.gop:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.header_copy:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.index:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.side:
                pass
                self.body._fetch_instances()
            elif _on == Nvc.PacketType.tile:
                pass
                self.body._fetch_instances()
            else:
                pass


    class Pair(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Pair, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.key = Nvc.Text(self._io, self, self._root)
            self.value = Nvc.Text(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.key._fetch_instances()
            self.value._fetch_instances()


    class Pairs(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Pairs, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.num_items = Nvc.Uvar(self._io, self, self._root)
            self.items = []
            for i in range(self.num_items.value):
                self.items.append(Nvc.Pair(self._io, self, self._root))



        def _fetch_instances(self):
            pass
            self.num_items._fetch_instances()
            for i in range(len(self.items)):
                pass
                self.items[i]._fetch_instances()



    class Ratio(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Ratio, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.numerator = Nvc.Uvar(self._io, self, self._root)
            self.denominator = Nvc.Uvar(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.numerator._fetch_instances()
            self.denominator._fetch_instances()


    class Side(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Side, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.stream = Nvc.Uvar(self._io, self, self._root)
            if self._parent.flags & 2 != 0:
                pass
                self.pts = Nvc.Svar(self._io, self, self._root)

            if self._parent.flags & 4 != 0:
                pass
                self.dts = Nvc.Svar(self._io, self, self._root)

            self.duration = Nvc.Uvar(self._io, self, self._root)
            self.data = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            self.stream._fetch_instances()
            if self._parent.flags & 2 != 0:
                pass
                self.pts._fetch_instances()

            if self._parent.flags & 4 != 0:
                pass
                self.dts._fetch_instances()

            self.duration._fetch_instances()

        @property
        def keyframe(self):
            if hasattr(self, '_m_keyframe'):
                return self._m_keyframe

            self._m_keyframe = self._parent.flags & 1 != 0
            return getattr(self, '_m_keyframe', None)


    class SideStream(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.SideStream, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.kind = Nvc.Text(self._io, self, self._root)
            self.codec = Nvc.Text(self._io, self, self._root)
            self.time_base = Nvc.Ratio(self._io, self, self._root)
            self.extradata = Nvc.Blob(self._io, self, self._root)
            self.disposition = Nvc.Uvar(self._io, self, self._root)
            self.parameters = Nvc.Pairs(self._io, self, self._root)
            self.metadata = Nvc.Pairs(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.kind._fetch_instances()
            self.codec._fetch_instances()
            self.time_base._fetch_instances()
            self.extradata._fetch_instances()
            self.disposition._fetch_instances()
            self.parameters._fetch_instances()
            self.metadata._fetch_instances()


    class SideStreams(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.SideStreams, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.num_items = Nvc.Uvar(self._io, self, self._root)
            self.items = []
            for i in range(self.num_items.value):
                self.items.append(Nvc.SideStream(self._io, self, self._root))



        def _fetch_instances(self):
            pass
            self.num_items._fetch_instances()
            for i in range(len(self.items)):
                pass
                self.items[i]._fetch_instances()



    class StreamHeader(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.StreamHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.signature = self._io.read_bytes(8)
            if not self.signature == b"\x89\x4E\x56\x43\x0D\x0A\x1A\x0A":
                raise kaitaistruct.ValidationNotEqualError(b"\x89\x4E\x56\x43\x0D\x0A\x1A\x0A", self.signature, self._io, u"/types/stream_header/seq/0")
            self.version_major = self._io.read_u1()
            if not self.version_major == 1:
                raise kaitaistruct.ValidationNotEqualError(1, self.version_major, self._io, u"/types/stream_header/seq/1")
            self.version_minor = self._io.read_u1()
            self.len_body = self._io.read_u4le()
            _on = self.is_bare
            if _on == False:
                pass
                self._raw_body = self._io.read_bytes(self.len_body)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.Header(_io__raw_body, self, self._root)
            elif _on == True:
                pass
                self._raw_body = self._io.read_bytes(self.len_body)
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = Nvc.BareHeader(_io__raw_body, self, self._root)
            else:
                pass
                self.body = self._io.read_bytes(self.len_body)
            self.crc = self._io.read_u4le()


        def _fetch_instances(self):
            pass
            _on = self.is_bare
            if _on == False:
                pass
                self.body._fetch_instances()
            elif _on == True:
                pass
                self.body._fetch_instances()
            else:
                pass
            _ = self.features
            if hasattr(self, '_m_features'):
                pass
                self._m_features._fetch_instances()


        @property
        def features(self):
            if hasattr(self, '_m_features'):
                return self._m_features

            _pos = self._io.pos()
            self._io.seek(14)
            self._m_features = Nvc.Uvar(self._io, self, self._root)
            self._io.seek(_pos)
            return getattr(self, '_m_features', None)

        @property
        def is_bare(self):
            if hasattr(self, '_m_is_bare'):
                return self._m_is_bare

            self._m_is_bare = self.features.value & 64 != 0
            return getattr(self, '_m_is_bare', None)


    class Svar(KaitaiStruct):
        """Signed integer v, sent as the uvar 2v for v >= 0, -2v - 1 for v < 0."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Svar, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.sent = Nvc.Uvar(self._io, self, self._root)


        def _fetch_instances(self):
            pass
            self.sent._fetch_instances()

        @property
        def value(self):
            if hasattr(self, '_m_value'):
                return self._m_value

            self._m_value = (self.sent.value >> 1 if self.sent.value & 1 == 0 else -(self.sent.value >> 1) - 1)
            return getattr(self, '_m_value', None)


    class Text(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Text, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.len_value = Nvc.Uvar(self._io, self, self._root)
            self.value = (self._io.read_bytes(self.len_value.value)).decode(u"UTF-8")


        def _fetch_instances(self):
            pass
            self.len_value._fetch_instances()


    class Tile(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Tile, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.number = Nvc.Uvar(self._io, self, self._root)
            self.modes = Nvc.Modes(self._io, self, self._root)
            self.payload = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            self.number._fetch_instances()
            self.modes._fetch_instances()


    class Uvar(KaitaiStruct):
        """Unsigned LEB128, at most 9 bytes, shortest form."""
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.Uvar, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.groups = []
            i = 0
            while True:
                _ = Nvc.UvarGroup(self._io, self, self._root)
                self.groups.append(_)
                if (not (_.more)):
                    break
                i += 1


        def _fetch_instances(self):
            pass
            for i in range(len(self.groups)):
                pass
                self.groups[i]._fetch_instances()


        @property
        def value(self):
            if hasattr(self, '_m_value'):
                return self._m_value

            self._m_value = (((((((self.groups[0].bits + (self.groups[1].bits << 7 if len(self.groups) > 1 else 0)) + (self.groups[2].bits << 14 if len(self.groups) > 2 else 0)) + (self.groups[3].bits << 21 if len(self.groups) > 3 else 0)) + (self.groups[4].bits << 28 if len(self.groups) > 4 else 0)) + (self.groups[5].bits << 35 if len(self.groups) > 5 else 0)) + (self.groups[6].bits << 42 if len(self.groups) > 6 else 0)) + (self.groups[7].bits << 49 if len(self.groups) > 7 else 0)) + (self.groups[8].bits << 56 if len(self.groups) > 8 else 0)
            return getattr(self, '_m_value', None)


    class UvarGroup(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.UvarGroup, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.more = self._io.read_bits_int_be(1) != 0
            self.bits = self._io.read_bits_int_be(7)


        def _fetch_instances(self):
            pass


    class WidthTables(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(Nvc.WidthTables, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.num_levels = self._io.read_u1()
            if not self.num_levels >= 1:
                raise kaitaistruct.ValidationLessThanError(1, self.num_levels, self._io, u"/types/width_tables/seq/0")
            if not self.num_levels <= 16:
                raise kaitaistruct.ValidationGreaterThanError(16, self.num_levels, self._io, u"/types/width_tables/seq/0")
            self.num_entries = Nvc.Uvar(self._io, self, self._root)
            self.tables = []
            for i in range(self.num_levels):
                self.tables.append(self._io.read_bytes((self.num_entries.value + 3) // 4))



        def _fetch_instances(self):
            pass
            self.num_entries._fetch_instances()
            for i in range(len(self.tables)):
                pass




