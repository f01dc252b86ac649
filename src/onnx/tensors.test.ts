import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DTYPES, type DType } from '../core/dtype.ts';
import { numberToBf16, numberToF16 } from '../core/float16.ts';
import { fromNumbers, type Tensor, tensorBytes } from '../core/tensor.ts';
import { codeOfDType } from './dtypes.ts';
import { checkLocation, externalReader } from './external-data.ts';
import { TensorProtoSchema } from './onnx_pb.ts';
import { readTensor, writeTensor } from './tensors.ts';

type Init = MessageInitShape<typeof TensorProtoSchema>;
/** Through bytes, as in a file. */
const read = (init: Init, file?: Uint8Array): Tensor =>
  readTensor(
    fromBinary(TensorProtoSchema, toBinary(TensorProtoSchema, create(TensorProtoSchema, init))),
    'initializer "w"',
    externalReader(file && (() => file)),
  );

const dtypes = Object.keys(DTYPES) as DType[];

describe.each(dtypes)('%s', (dtype) => {
  test.each([[[]], [[0]], [[3, 0, 2]], [[7]], [[2, 3, 5]]])('of shape %j comes back from raw_data', (shape) => {
    const n = shape.reduce((a, b) => a * b, 1);
    const tensor = fromNumbers(
      dtype,
      shape,
      Array.from({ length: n }, (_, i) => (dtype === 'bool' ? i % 2 : i)),
    );
    expect(readTensor(writeTensor(tensor, 'w'), 'w', externalReader(undefined))).toEqual(tensor);
  });
});

describe('typed lists', () => {
  const cases: readonly (readonly [DType, Init, readonly (number | bigint)[]])[] = [
    ['f32', { floatData: [1.5, Number.NaN, -Number.POSITIVE_INFINITY] }, [1.5, Number.NaN, -Number.POSITIVE_INFINITY]],
    ['f64', { doubleData: [0.1, -0, 1e300] }, [0.1, -0, 1e300]],
    ['i64', { int64Data: [-(2n ** 63n), 2n ** 63n - 1n, 0n] }, [-(2n ** 63n), 2n ** 63n - 1n, 0n]],
    ['u64', { uint64Data: [0n, 2n ** 64n - 1n, 5n] }, [0n, 2n ** 64n - 1n, 5n]],
    ['u32', { uint64Data: [0n, 2n ** 32n - 1n, 5n] }, [0, 2 ** 32 - 1, 5]],
    ['i32', { int32Data: [-(2 ** 31), 2 ** 31 - 1, 0] }, [-(2 ** 31), 2 ** 31 - 1, 0]],
    ['i16', { int32Data: [-32768, 32767, 0] }, [-32768, 32767, 0]],
    ['u16', { int32Data: [0, 65535, 1] }, [0, 65535, 1]],
    ['i8', { int32Data: [-128, 127, 0] }, [-128, 127, 0]],
    ['u8', { int32Data: [0, 255, 1] }, [0, 255, 1]],
    ['bool', { int32Data: [0, 1, 7] }, [0, 1, 1]],
    ['f16', { int32Data: [numberToF16(1.5), numberToF16(-2), 0x7e00] }, [numberToF16(1.5), numberToF16(-2), 0x7e00]],
    ['bf16', { int32Data: [numberToBf16(3), 0, 0xff80] }, [numberToBf16(3), 0, 0xff80]],
    ['f8e4m3fn', { int32Data: [0x38, 0x7f, 0xff] }, [0x38, 0x7f, 0xff]],
    ['f8e4m3fnuz', { int32Data: [0x38, 0x80, 0xff] }, [0x38, 0x80, 0xff]],
    ['f8e5m2', { int32Data: [0x3c, 0x7c, 0xff] }, [0x3c, 0x7c, 0xff]],
    ['f8e5m2fnuz', { int32Data: [0x40, 0x80, 0xff] }, [0x40, 0x80, 0xff]],
    ['f8e8m0', { int32Data: [0, 127, 255] }, [0, 127, 255]],
    ['f6e2m3', { int32Data: [0, 0x1f, 0x3f] }, [0, 0x1f, 0x3f]],
    ['f6e3m2', { int32Data: [0, 0x1f, 0x3f] }, [0, 0x1f, 0x3f]],
    ['f4e2m1', { int32Data: [0xf7, 0x02] }, [0x7, 0xf, 0x2]],
    ['i4', { int32Data: [0x8f, 0x07] }, [-1, -8, 7]],
    ['u4', { int32Data: [0x8f, 0x07] }, [15, 8, 7]],
    ['i2', { int32Data: [0b00_10_01_11] }, [-1, 1, -2]],
    ['u2', { int32Data: [0b00_10_01_11] }, [3, 1, 2]],
  ];
  test('there is a case for every dtype', () => expect(new Set(cases.map(([d]) => d)).size).toBe(dtypes.length));
  test.each(cases)('%s', (dtype, data, values) => {
    const tensor = read({ dims: [3n], dataType: codeOfDType(dtype), ...data });
    expect(tensor.dtype).toBe(dtype);
    expect([...tensor.data]).toEqual(values);
  });
  test.each([
    ['u8', 256],
    ['i8', -129],
    ['u16', -1],
    ['f16', 65536],
  ] as const)('%s cannot hold %i', (dtype, value) => {
    expect(() => read({ dims: [1n], dataType: codeOfDType(dtype), int32Data: [value] })).toThrow(/which no/);
  });
});

test.each([
  ['i4', [0x8f, 0x07], [-1, -8, 7]],
  ['u4', [0x8f, 0x07], [15, 8, 7]],
  ['f4e2m1', [0x8f, 0x07], [15, 8, 7]],
  ['u2', [0b11_10_01_00], [0, 1, 2]],
  // 6 bits an element, lowest first, across the bytes.
  ['f6e3m2', [0b01_000001, 0b0011_1111, 0b10], [1, 0b111101, 0b100011]],
] as const)('raw_data of %s is packed', (dtype, bytes, values) => {
  const tensor = read({ dims: [3n], dataType: codeOfDType(dtype), rawData: Uint8Array.from(bytes) });
  expect([...tensor.data]).toEqual(values);
});
test('packed data of another length are refused', () => {
  const init = { dims: [3n], dataType: codeOfDType('i4'), rawData: new Uint8Array(3) };
  expect(() => read(init)).toThrow(/i4\[3\] has 3 bytes of data/);
});

test('raw_data is a view where aligned, a copy where not', () => {
  const buffer = new Uint8Array(32);
  const at = (offset: number): Tensor =>
    readTensor(
      create(TensorProtoSchema, { dims: [2n], dataType: 1, rawData: buffer.subarray(offset, offset + 8) }),
      'w',
      externalReader(undefined),
    );
  expect(at(8).data.buffer).toBe(buffer.buffer);
  expect(at(8).data.byteOffset).toBe(8);
  expect(at(9).data.buffer).not.toBe(buffer.buffer);
});

test.each([
  ['too little data', { dims: [3n], dataType: 1, rawData: new Uint8Array(8) }, /f32\[3\] has 8 bytes of data/],
  ['too much data', { dims: [1n], dataType: 1, rawData: new Uint8Array(8) }, /has 8 bytes of data/],
  ['no data', { dims: [3n], dataType: 1 }, /has 0 elements of data/],
  ['more elements than memory', { dims: [2n ** 40n], dataType: 1, rawData: new Uint8Array(4) }, /has 4 bytes of data/],
  ['dims whose product overflows', { dims: [2n ** 40n, 2n ** 40n], dataType: 1 }, /out of range/],
  ['an empty tensor of impossible size', { dims: [0n, 2n ** 60n], dataType: 1 }, /out of range/],
  ['a negative dim', { dims: [-1n], dataType: 1 }, /out of range/],
  ['strings', { dims: [1n], dataType: 8 }, /element type string/],
  ['no type', { dims: [1n] }, /element type type 0/],
] as const)('%s is refused', (_name, init, message) => {
  expect(() => read(init as unknown as Init)).toThrow(message);
});

describe('external data', () => {
  const file = Uint8Array.from({ length: 64 }, (_, i) => i);
  const external = (fields: Readonly<Record<string, string>>, dims = [2n]): Init => ({
    dims,
    dataType: 1,
    dataLocation: 1,
    externalData: Object.entries(fields).map(([key, value]) => ({ key, value })),
  });

  test('is read at its offset', () => {
    const tensor = read(external({ location: 'w.bin', offset: '8', length: '8' }), file);
    expect(tensorBytes(tensor)).toEqual(file.subarray(8, 16));
    expect(tensor.data.buffer).toBe(file.buffer);
  });
  test('needs neither offset nor length', () => {
    expect(tensorBytes(read(external({ location: 'w.bin' }), file))).toEqual(file.subarray(0, 8));
  });
  test.each([
    ['past the end', { location: 'w.bin', offset: '60' }, /has 64 bytes, but the tensor lies at 60 to 68/],
    ['of another length', { location: 'w.bin', length: '9' }, /needs 8 bytes, but external data gives 9/],
    ['at a negative offset', { location: 'w.bin', offset: '-8' }, /offset is "-8"/],
    ['at an offset that is no number', { location: 'w.bin', offset: '1e3' }, /offset is "1e3"/],
  ])('%s is refused', (_name, fields, message) => {
    expect(() => read(external(fields), file)).toThrow(message);
  });
  test('that is missing is named', () => {
    expect(() => read(external({ location: 'sub/w.bin' }))).toThrow(
      /initializer "w": its data are in "sub\/w\.bin", which is missing/,
    );
  });
  test.each([
    '/etc/passwd',
    '../w.bin',
    'a/../../w.bin',
    'C:\\w.bin',
    '\\\\host\\w.bin',
    '..\\w.bin',
    '',
    'a\0b',
    'file:w',
  ])('location %j is not followed', (location) =>
    expect(() => checkLocation(location, 'w')).toThrow(/not inside the model's folder/),
  );
  test.each(['w.bin', 'sub/w.bin', './w.bin', 'a..b', '...'])('location %j is', (location) => {
    expect(() => checkLocation(location, 'w')).not.toThrow();
  });
  test('claims of any size allocate nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 0n, max: 2n ** 50n }), { minLength: 1, maxLength: 4 }), (dims) => {
        if (dims.includes(0n) || dims.reduce((a, b) => a * b, 4n) <= 64n) return;
        expect(() => read(external({ location: 'w.bin' }, dims), file)).toThrow();
      }),
    );
  });
});
