import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DTYPES, type DType, storageOf } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { fromNumbers, tensorBytes, zeros } from '../core/tensor.ts';
import { npyFileName, readNpy, writeNpy } from './npy.ts';

const DTYPE_NAMES = (Object.keys(DTYPES) as DType[]).filter((d) => d !== 'bf16' && storageOf(d) === d);

describe('round trip', () => {
  test.each(DTYPE_NAMES)('%s in every rank', (dtype) => {
    for (const shape of [[], [0], [1], [7], [2, 3], [1, 0, 5], [2, 3, 5, 7]]) {
      const tensor = fromNumbers(
        dtype,
        shape,
        Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => i % 5),
      );
      const bytes = writeNpy(tensor);
      expect((bytes.length - tensorBytes(tensor).length) % 64).toBe(0);
      expect(readNpy(bytes, 'a.npy')).toEqual(tensor);
      // At an odd address, as in the middle of some other file.
      const shifted = new Uint8Array(bytes.length + 1);
      shifted.set(bytes, 1);
      expect(readNpy(shifted.subarray(1), 'a.npy')).toEqual(tensor);
    }
  });
});

const python = spawnSync('/usr/bin/python3', ['-c', 'import numpy']).status === 0;
test.skipIf(!python)(
  `NumPy reads what is written and writes what is read${python ? '' : ' (NumPy is not installed)'}`,
  () => {
    const script = [
      'import sys, io, numpy',
      'a = numpy.load(io.BytesIO(sys.stdin.buffer.read()))',
      'out = io.BytesIO(); numpy.save(out, a + a.dtype.type(1)); sys.stdout.buffer.write(out.getvalue())',
    ].join('\n');
    for (const dtype of ['f64', 'f32', 'f16', 'i64', 'u64', 'i32', 'u16', 'i8'] as const) {
      const tensor = fromNumbers(dtype, [2, 3], [0, 1, 2, 3, 4, 5]);
      const { stdout } = spawnSync('/usr/bin/python3', ['-c', script], { input: writeNpy(tensor) });
      expect(readNpy(stdout, 'b.npy')).toEqual(fromNumbers(dtype, [2, 3], [1, 2, 3, 4, 5, 6]));
    }
  },
);

describe('hostile files', () => {
  const withHeader = (header: string, data = 0) => {
    const bytes = new Uint8Array(10 + header.length + data);
    bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
    bytes.set(new TextEncoder().encode(header), 10);
    return bytes;
  };
  test.each([
    ['not an array', new TextEncoder().encode('PK\x03\x04 something else')],
    ['empty', new Uint8Array(0)],
    ['header cut', writeNpy(zeros('f32', [3])).subarray(0, 40)],
    ['data cut', writeNpy(zeros('f32', [3])).subarray(0, 130)],
    ['data too long', new Uint8Array([...writeNpy(zeros('f32', [3])), 0])],
    ['pickled objects', withHeader("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8)],
    ['big-endian', withHeader("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4)],
    ['Fortran order', withHeader("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16)],
    ['a size beyond memory', withHeader("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }")],
    ['no shape', withHeader("{'descr': '<f4', 'fortran_order': False}")],
    ['a shape of code', withHeader("{'descr': '<f4', 'fortran_order': False, 'shape': (exit(),), }")],
  ])('%s', (_, bytes) => {
    expect(() => readNpy(bytes, 'evil.npy')).toThrow(ModelError);
    expect(() => readNpy(bytes, 'evil.npy')).toThrow(/^evil\.npy: /);
  });

  test('any change of a file is an array of its stated size or a ModelError', () => {
    const file = writeNpy(
      fromNumbers(
        'f32',
        [4, 5],
        Array.from({ length: 20 }, (_, i) => i),
      ),
    );
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.nat(255), fc.nat(file.length), (at, value, length) => {
        const bytes = file.slice(0, length);
        if (at < length) bytes[at] = value;
        try {
          const { data, shape } = readNpy(bytes, 'x');
          expect(data.length).toBe(shape.reduce((n, d) => n * d, 1));
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

test('file names keep what every file system takes', () => {
  expect(npyFileName('a/b:0 c.d-e_F')).toBe('a_b_0_c.d-e_F.npy');
});
