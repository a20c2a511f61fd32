"""A reader of flat Parquet files, written from the specification alone: an oracle that is always there.

Apache Parquet format (parquet.thrift, Encodings.md), Thrift compact protocol. Not compressed, PLAIN, optional columns.
"""
import struct


class Thrift:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def value(self, kind):
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            number = self.varint()
            return number >> 1 ^ -(number & 1)
        if kind == 8:
            n = self.varint()
            self.at += n
            return self.data[self.at - n:self.at]
        if kind == 9:
            head = self.data[self.at]
            self.at += 1
            n = head >> 4 if head >> 4 < 15 else self.varint()
            return [self.value(head & 15) for _ in range(n)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"type {kind}")

    def struct(self):
        fields, last = {}, 0
        while True:
            head = self.data[self.at]
            self.at += 1
            if head == 0:
                return fields
            assert head >> 4, "long forms of field headers are not needed here"
            last += head >> 4
            fields[last] = self.value(head & 15)


def levels(data, n):
    """n bits, from runs of equal ones and groups of eight."""
    thrift, out = Thrift(data), []
    while len(out) < n:
        head = thrift.varint()
        if head & 1:
            for byte in data[thrift.at:thrift.at + (head >> 1)]:
                out += [byte >> bit & 1 for bit in range(8)]
            thrift.at += head >> 1
        else:
            out += [data[thrift.at]] * (head >> 1)
            thrift.at += 1
    assert thrift.at == len(data)
    return out[:n]


def page(data, at, kind, out):
    thrift = Thrift(data, at)
    header = thrift.struct()
    assert header[1] == 0 and header[2] == header[3]
    n, body = header[5][1], data[thrift.at:thrift.at + header[2]]
    n_levels = struct.unpack_from("<I", body)[0]
    at_value = 4 + n_levels
    for there in levels(body[4:at_value], n):
        if not there:
            out.append(None)
        elif kind == 1:
            out.append(struct.unpack_from("<i", body, at_value)[0])
            at_value += 4
        else:
            size = struct.unpack_from("<I", body, at_value)[0]
            out.append(body[at_value + 4:at_value + 4 + size].decode())
            at_value += 4 + size
    assert at_value == len(body)
    return thrift.at + header[2]


def read(path):
    """{column: values}"""
    data = path.read_bytes()
    assert data[:4] == data[-4:] == b"PAR1"
    n_footer = struct.unpack("<I", data[-8:-4])[0]
    thrift = Thrift(data, len(data) - 8 - n_footer)
    footer = thrift.struct()
    assert thrift.at == len(data) - 8
    schema, table = footer[2], {}
    assert schema[0][5] == len(schema) - 1
    for group in footer[4]:
        assert group[2] == sum(column[3][7] for column in group[1])
        for element, column in zip(schema[1:], group[1]):
            facts = column[3]
            assert facts[3] == [element[4]] and facts[1] == element[1] and facts[4] == 0 and facts[5] == group[3]
            values, at = [], facts[9]
            while at < facts[9] + facts[7]:
                at = page(data, at, facts[1], values)
            assert at == facts[9] + facts[7] and len(values) == group[3]
            table.setdefault(element[4].decode(), []).extend(values)
    assert all(len(values) == footer[3] for values in table.values())
    return table
