/**
 * NumPy's .npy files, format 1.0 (and the longer headers of 2.0 and 3.0 on reading): a tensor to bytes and back.
 *
 *     93 'NUMPY' 01 00   u16 length   "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }" spaces '\n'   elements
 *
 * Files may come from anywhere: every field is checked against the bytes that are there before memory is taken.
 * Source: numpy.lib.format in NumPy's documentation.
 */
import { dataView, typedView } from '../core/bytes.ts';
import { DTYPES, type DType, type MachineDType, storageOf } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements, printShape, type StaticShape } from '../core/shape.ts';
import { type Tensor, tensorBytes } from '../core/tensor.ts';

/** NumPy has no bfloat16: its bits travel as u16; small floats' and integers' elements as the bytes that they are. */
const DESCR: { readonly [D in MachineDType]: string } = {
  f64: '<f8',
  f32: '<f4',
  f16: '<f2',
  bf16: '<u2',
  i64: '<i8',
  u64: '<u8',
  i32: '<i4',
  u32: '<u4',
  i16: '<i2',
  u16: '<u2',
  i8: '|i1',
  u8: '|u1',
  bool: '|b1',
};
const DTYPE_OF_DESCR: ReadonlyMap<string, DType> = new Map(
  (Object.keys(DESCR) as MachineDType[]).filter((dtype) => dtype !== 'bf16').map((dtype) => [DESCR[dtype], dtype]),
);

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] as const;
/** Elements start at a multiple of this, as NumPy writes them. */
const ALIGNMENT = 64;

/** The tensor as a format 1.0 file. */
export function writeNpy(tensor: Tensor): Uint8Array {
  const { shape } = tensor;
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const fields = `{'descr': '${DESCR[storageOf(tensor.dtype)]}', 'fortran_order': False, 'shape': (${tuple}), }`;
  const preamble = MAGIC.length + 4;
  const headerLength = Math.ceil((preamble + fields.length + 1) / ALIGNMENT) * ALIGNMENT - preamble;
  const header = new TextEncoder().encode(`${fields.padEnd(headerLength - 1)}\n`);
  const data = tensorBytes(tensor);
  const out = new Uint8Array(preamble + headerLength + data.length);
  out.set(MAGIC);
  out.set([1, 0, headerLength & 255, headerLength >> 8], MAGIC.length);
  out.set(header, preamble);
  out.set(data, preamble + headerLength);
  return out;
}

/** The tensor of a .npy file, C order. `file` is named in errors: ModelError `input-mismatch` where the file is not one, or damaged. */
export function readNpy(bytes: Uint8Array, file: string): Tensor {
  const fail = (what: string, hint = 'Save the array again with numpy.save.'): never => {
    throw new ModelError('input-mismatch', `${file}: ${what}`, { hint });
  };
  if (bytes.length < 12 || MAGIC.some((byte, i) => bytes[i] !== byte)) return fail('not a NumPy .npy file');
  const view = dataView(bytes);
  const version = bytes[6];
  if (version < 1 || version > 3) return fail(`.npy format ${version}.${bytes[7]} is not known (1, 2 and 3 are)`);
  const preamble = version === 1 ? 10 : 12;
  const headerLength = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const start = preamble + headerLength;
  if (start > bytes.length) return fail('the .npy header is cut off');
  const { descr, fortran, shape } =
    parseHeader(new TextDecoder('latin1').decode(bytes.subarray(preamble, start))) ??
    fail('the .npy header is damaged');
  const dtype = DTYPE_OF_DESCR.get(descr);
  if (dtype === undefined) {
    return fail(
      `element type '${descr}' is not supported`,
      `Convert the array to one of ${[...DTYPE_OF_DESCR.keys()].join(' ')} (little-endian).`,
    );
  }
  if (fortran && shape.length > 1)
    return fail('the array is in Fortran order', 'Save it with numpy.ascontiguousarray(array).');
  const expected = elements(shape) * DTYPES[dtype].bytes;
  const given = bytes.length - start;
  if (expected !== given) return fail(`${dtype}${printShape(shape)} needs ${expected} bytes, the file has ${given}`);
  const data = typedView(DTYPES[dtype].array, bytes.subarray(start));
  return { dtype, shape, data };
}

interface Header {
  readonly descr: string;
  readonly fortran: boolean;
  readonly shape: StaticShape;
}

/** The three fields of the header's Python dictionary, in any order; undefined where one is missing or malformed. */
function parseHeader(text: string): Header | undefined {
  const descr = /'descr'\s*:\s*'([^']*)'/.exec(text)?.[1];
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text)?.[1];
  const tuple = /'shape'\s*:\s*\(([\d\s,L]*)\)/.exec(text)?.[1];
  if (descr === undefined || fortran === undefined || tuple === undefined) return undefined;
  const shape = tuple
    .split(',')
    .map((size) => size.trim().replace(/L$/, ''))
    .filter((size) => size !== '')
    .map(Number);
  const plausible =
    shape.length <= 32 && shape.every(Number.isSafeInteger) && Number.isSafeInteger(elements(shape) * 8);
  return plausible ? { descr, fortran: fortran === 'True', shape } : undefined;
}

/** The name of an output's file: characters that a file system may not take become `_`. */
export const npyFileName = (valueName: string): string => `${valueName.replace(/[^A-Za-z0-9._-]/g, '_')}.npy`;
