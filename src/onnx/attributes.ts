/**
 * AttributeProto to AttrValue and back.
 *
 * ONNX has one integer type; the operator's spec says whether an int is a number, a truth value or an element type. Attributes that
 * the spec does not name (forms of older opsets) come through as they are, for the operator's upgrade to take.
 * Graphs as attributes (If, Loop, Scan) are not read: no operator here takes one.
 */
import { create } from '@bufbuild/protobuf';
import { isDType } from '../core/dtype.ts';
import { Bug, ModelError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import type { AttrValue } from '../graph/ir.ts';
import type { AttrSpec } from '../ops/op.ts';
import { codeOfDType, dtypeOfCode, nameOfCode } from './dtypes.ts';
import { type AttributeProto, AttributeProtoSchema, type TensorProto } from './onnx_pb.ts';
import { writeTensor } from './tensors.ts';

/** AttributeProto.type. */
const TYPE = { FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, GRAPH: 5, FLOATS: 6, INTS: 7, STRINGS: 8 } as const;

interface AttributeField {
  readonly type: number;
  /** For messages, with its article. */
  readonly name: string;
  readonly isPresent: (attr: AttributeProto) => boolean;
  /** The specs of attributes that are written so. */
  readonly specs: readonly AttrSpec<unknown>['type'][];
}

/** Where an attribute of each type has its value. A list may be empty, so absence tells nothing. */
export const ATTRIBUTE_FIELDS: readonly AttributeField[] = [
  { type: TYPE.FLOAT, name: 'a float', isPresent: (a) => a.f !== undefined, specs: ['float'] },
  { type: TYPE.INT, name: 'an int', isPresent: (a) => a.i !== undefined, specs: ['int', 'bool', 'dtype'] },
  { type: TYPE.STRING, name: 'a string', isPresent: (a) => a.s !== undefined, specs: ['string'] },
  { type: TYPE.TENSOR, name: 'a tensor', isPresent: (a) => a.t !== undefined, specs: ['tensor'] },
  { type: TYPE.GRAPH, name: 'a graph', isPresent: (a) => a.g !== undefined, specs: ['graph'] },
  { type: TYPE.FLOATS, name: 'floats', isPresent: (a) => a.floats.length > 0, specs: ['floats'] },
  { type: TYPE.INTS, name: 'ints', isPresent: (a) => a.ints.length > 0, specs: ['ints'] },
  { type: TYPE.STRINGS, name: 'strings', isPresent: (a) => a.strings.length > 0, specs: ['strings'] },
];
export const attributeTypeName = (type: number): string =>
  ATTRIBUTE_FIELDS.find((field) => field.type === type)?.name ?? `of type ${type}`;

/**
 * The value of an attribute; undefined where it holds none. `label` names the node in errors.
 * Ints beyond 2^53 are clamped: they only occur as "to the end". Throws ModelError `onnx-unsupported` or `model-invalid`.
 */
export function readAttribute(
  attr: AttributeProto,
  spec: AttrSpec<unknown> | undefined,
  label: string,
  readTensor: (proto: TensorProto, label: string) => Tensor,
): AttrValue {
  const what = `${label}: attribute "${attr.name}"`;
  const type = attr.type || guessType(attr);
  const wanted = ATTRIBUTE_FIELDS.find(({ specs }) => spec && specs.includes(spec.type));
  if (wanted && type !== 0 && type !== wanted.type)
    throw new ModelError('model-invalid', `${what} is ${attributeTypeName(type)}, expected ${wanted.name}`);
  switch (type) {
    case 0:
      return undefined;
    case TYPE.FLOAT:
      return attr.f ?? 0;
    case TYPE.INT:
      return readInt(attr.i ?? 0n, spec, what);
    case TYPE.STRING:
      return text(attr.s ?? new Uint8Array());
    case TYPE.TENSOR:
      if (attr.t === undefined) throw new ModelError('model-invalid', `${what} is a tensor without content`);
      return readTensor(attr.t, what);
    case TYPE.FLOATS:
      return attr.floats;
    case TYPE.INTS:
      return attr.ints.map(clamped);
    case TYPE.STRINGS:
      return attr.strings.map(text);
    case TYPE.GRAPH:
      throw new ModelError('onnx-unsupported', `${what} is a graph`, {
        hint: 'export the model without control flow, or simplify it',
      });
    default:
      throw new ModelError('onnx-unsupported', `${what} has attribute type ${attr.type}`);
  }
}

/** Files of IR version 1 have no type: the field that is there tells. */
const guessType = (attr: AttributeProto): number =>
  ATTRIBUTE_FIELDS.find(({ isPresent }) => isPresent(attr))?.type ?? 0;

function readInt(value: bigint, spec: AttrSpec<unknown> | undefined, what: string): AttrValue {
  if (spec?.type === 'bool') return value !== 0n;
  if (spec?.type !== 'dtype') return clamped(value);
  if (value === 0n) return undefined;
  const dtype = dtypeOfCode(Number(value));
  if (dtype === undefined)
    throw new ModelError('onnx-unsupported', `${what} is element type ${nameOfCode(Number(value))}`);
  return dtype;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const clamped = (value: bigint): number =>
  Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Number(value)));

/** The attribute in ONNX's form; undefined where it holds nothing, or the operator's default. */
export function writeAttribute(name: string, value: AttrValue, spec: AttrSpec<unknown>): AttributeProto | undefined {
  if (value === undefined || isDefault(value, spec)) return undefined;
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  switch (spec.type) {
    case 'float':
      return create(AttributeProtoSchema, { name, type: TYPE.FLOAT, f: value as number });
    case 'int':
      return create(AttributeProtoSchema, { name, type: TYPE.INT, i: BigInt(value as number) });
    case 'bool':
      return create(AttributeProtoSchema, { name, type: TYPE.INT, i: value ? 1n : 0n });
    case 'dtype':
      if (typeof value !== 'string' || !isDType(value)) throw new Bug('attr-dtype', `attribute ${name} is no dtype`);
      return create(AttributeProtoSchema, { name, type: TYPE.INT, i: BigInt(codeOfDType(value)) });
    case 'string':
      return create(AttributeProtoSchema, { name, type: TYPE.STRING, s: encode(value as string) });
    case 'floats':
      return create(AttributeProtoSchema, { name, type: TYPE.FLOATS, floats: [...(value as readonly number[])] });
    case 'ints':
      return create(AttributeProtoSchema, { name, type: TYPE.INTS, ints: (value as readonly number[]).map(BigInt) });
    case 'strings':
      return create(AttributeProtoSchema, {
        name,
        type: TYPE.STRINGS,
        strings: (value as readonly string[]).map(encode),
      });
    case 'tensor':
      return create(AttributeProtoSchema, { name, type: TYPE.TENSOR, t: writeTensor(value as Tensor, '') });
    case 'graph':
      throw new ModelError('onnx-unsupported', `attribute "${name}" is a graph, which cannot be written`);
    default:
      return spec.type satisfies never;
  }
}

/** A default need not be written. What is left out reads the same under every opset that knows the operator. */
function isDefault(value: AttrValue, spec: AttrSpec<unknown>): boolean {
  if (spec.default === undefined) return false;
  if (!Array.isArray(value) || !Array.isArray(spec.default)) return value === spec.default;
  const other: readonly unknown[] = spec.default;
  return value.length === other.length && value.every((v, i) => v === other[i]);
}
