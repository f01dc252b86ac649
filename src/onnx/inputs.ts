/**
 * Types of a model's inputs: ValueInfoProto to ValueType and back.
 *
 * A dim is a number, a name (a size that the caller chooses; equal names are equal sizes) or nothing, which becomes a name of its own.
 * Names like `past + new` are read as the sums they are written as.
 */
import { create } from '@bufbuild/protobuf';
import { ModelError } from '../core/errors.ts';
import { addDims, type Dim, mulDims, printDim, sym } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import { codeOfDType, dtypeOfCode, nameOfCode } from './dtypes.ts';
import { type TensorShapeProto_Dimension, type ValueInfoProto, ValueInfoProtoSchema } from './onnx_pb.ts';

const LARGEST_DIM = 2 ** 31 - 1;

/** Throws ModelError `onnx-unsupported`, `shape-unknown` or `model-invalid`. */
export function readInput(info: ValueInfoProto): ValueType {
  const label = `input "${info.name}"`;
  const kind = info.type?.value.case;
  if (kind === undefined) throw new ModelError('model-invalid', `${label} has no type`);
  if (info.type?.value.case !== 'tensorType') {
    throw new ModelError('onnx-unsupported', `${label} is a ${kind.replace('Type', '')}, only tensors are supported`);
  }
  const { elemType, shape } = info.type.value.value;
  const dtype = dtypeOfCode(elemType);
  if (dtype === undefined) throw new ModelError('onnx-unsupported', `${label}: element type ${nameOfCode(elemType)}`);
  if (shape === undefined) {
    throw new ModelError('shape-unknown', `${label} has no shape, not even its number of dims`, {
      hint: 'export the model with a shape for it; single dims may stay open',
    });
  }
  return { dtype, shape: shape.dim.map((dim, i) => readDim(dim, `${info.name}_${i}`, label)) };
}

/** Some exporters write -1 for an open dim. */
function readDim(dim: TensorShapeProto_Dimension, freshName: string, label: string): Dim {
  if (dim.value.case === 'dimParam' && dim.value.value.trim() !== '') return parseDim(dim.value.value);
  if (dim.value.case !== 'dimValue' || dim.value.value === -1n) return sym(plainName(freshName));
  const size = Number(dim.value.value);
  if (size >= 0 && size <= LARGEST_DIM) return size;
  throw new ModelError('model-invalid', `${label}: dim ${size} is out of range`);
}

/** A sum of `name`, `3*name` and integers; anything else is one name, with the characters that formulas use replaced. */
function parseDim(text: string): Dim {
  const compact = text.replace(/\s*([-+*])\s*/g, '$1').trim();
  if (!/^[-+]?(\d{1,9}|(\d{1,9}\*)?[A-Za-z_]\w*)([-+](\d{1,9}|(\d{1,9}\*)?[A-Za-z_]\w*))*$/.test(compact)) {
    return sym(plainName(text));
  }
  let sum: Dim = 0;
  for (const [term] of compact.matchAll(/[-+]?[^-+]+/g)) {
    const sign = term.startsWith('-') ? -1 : 1;
    const factors = term.replace(/^[-+]/, '').split('*');
    const product = factors.map((f): Dim => (/^\d/.test(f) ? Number(f) : sym(f))).reduce(mulDims);
    sum = addDims(sum, mulDims(sign, product));
  }
  return typeof sum === 'number' && sum < 0 ? sym(plainName(text)) : sum;
}

/** A name that no formula can be taken for. */
function plainName(text: string): string {
  const name = text.replace(/[^A-Za-z0-9_.]+/g, '_');
  return /^[A-Za-z_]/.test(name) ? name : `_${name}`;
}

export function writeValueInfo(name: string, type: ValueType): ValueInfoProto {
  const dim = type.shape.map((d) => ({
    value:
      typeof d === 'number'
        ? { case: 'dimValue' as const, value: BigInt(d) }
        : { case: 'dimParam' as const, value: printDim(d) },
  }));
  const value = { elemType: codeOfDType(type.dtype), shape: { dim } };
  return create(ValueInfoProtoSchema, { name, type: { value: { case: 'tensorType', value } } });
}
